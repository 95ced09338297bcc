/** Refuses requests that a browser sends for a page of another site, which may send them without its user's knowledge. */
import { OrderError } from '@trellis/contracts/error';

/**
 * Returns a function that tells why a request is refused; undefined when it is not. `origins`: those whose pages may call the API, `*` for
 * all. `hosts`: the names by which a server on one machine is reached; a page of another site that has its own name resolve to that
 * machine is, to the browser, a page of the API. `variable`: the one that lists the origins.
 */
export function createSiteCheck(origins: string[] = [], hosts?: readonly string[], variable = 'CORS_ORIGINS') {
  return ({ headers }: Request): OrderError | undefined => {
    const site = headers.get('sec-fetch-site');
    if (site === 'cross-site' || site === 'same-site') {
      const origin = headers.get('origin') ?? '';
      if (!origins.includes('*') && !origins.includes(origin))
        return new OrderError('FORBIDDEN', `pages of this origin may not call the API; see ${variable}`);
    }
    const host = hosts && headers.get('host')?.replace(/:\d+$/, '');
    return host && !hosts.includes(host)
      ? new OrderError(
          'FORBIDDEN',
          'the Host header names another host; an API on 127.0.0.1 is for its own machine, see HOST',
        )
      : undefined;
  };
}
