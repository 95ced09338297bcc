import { ship } from './client-example.js';

export default {
  async fetch(request: Request, env: { API_URL: string }): Promise<Response> {
    return Response.json(await ship(env.API_URL, await request.text()));
  },
};
