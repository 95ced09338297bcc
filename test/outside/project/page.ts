import { ship } from './client-example.js';

const status = await ship('http://localhost:8000', `o-${Date.now()}`);
document.body.textContent = status.state;
