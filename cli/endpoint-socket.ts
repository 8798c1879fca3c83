import { isIP } from 'node:net';
import { KedgeError, quote } from '../pki/kedge-error.ts';

const HINT = 'write unix:///absolute/path/to/socket or tcp://IP:port';

/**
 * A Workload API address as the standard has it (`unix:///abs/path`, `tcp://IP:port`), turned into a gRPC target.
 *
 * Throws `usage_invalid`, saying which rule is broken. Source: SPIFFE_Workload_Endpoint.md section 4.
 */
export function parseEndpointSocket(address: string): string {
  const refuse = (rule: string): KedgeError =>
    new KedgeError('usage_invalid', `the endpoint socket ${quote(address)} is not usable: ${rule}`, {
      hint: HINT,
    });
  if (/[?#]/.test(address)) throw refuse('it has a query or a fragment');
  const parts = /^([a-z]+):\/\/([^/]*)(\/.*)?$/.exec(address) ?? /^(unix):()(\/.*)$/.exec(address);
  if (parts === null) throw refuse('it is not a URI with scheme unix or tcp');
  const [, scheme, authority = '', path = ''] = parts;
  if (scheme === 'tcp') return tcpTarget(authority, path, refuse);
  if (scheme !== 'unix') throw refuse(`there is no scheme ${quote(scheme ?? '')}`);
  if (authority !== '') throw refuse('a unix address has no authority');
  if (path === '' || path === '/') throw refuse('a unix address has an absolute path');
  return `unix://${decodePath(path, refuse)}`;
}

/** Where a command looks for the Workload API: its option, which may also be a plain absolute path. */
export function socketTarget(value: string | undefined): string {
  if (value === undefined) {
    throw new KedgeError('usage_invalid', 'no Workload API socket is named', {
      hint: `give --socket, or set SPIFFE_ENDPOINT_SOCKET; ${HINT}`,
    });
  }
  return value.startsWith('/') ? `unix://${value}` : parseEndpointSocket(value);
}

function tcpTarget(authority: string, path: string, refuse: (rule: string) => KedgeError): string {
  if (path !== '') throw refuse('a tcp address has no path');
  const parts = /^(\[[^\]]*\]|[^:]*):([0-9]{1,5})$/.exec(authority);
  const [, host = '', port = ''] = parts ?? [];
  const ip = host.startsWith('[') ? host.slice(1, -1) : host;
  const version = isIP(ip);
  if (version === 0) throw refuse('a tcp address has an IP and a port');
  if ((version === 6) !== host.startsWith('['))
    throw refuse('an IPv6 address stands in brackets, no other does');
  if (Number(port) < 1 || Number(port) > 65_535) throw refuse('the port is not between 1 and 65535');
  return version === 6 ? `ipv6:[${ip}]:${port}` : `ipv4:${ip}:${port}`;
}

function decodePath(path: string, refuse: (rule: string) => KedgeError): string {
  try {
    const decoded = decodeURIComponent(path);
    if (decoded.includes('\0')) throw refuse('its path holds a zero byte');
    return decoded;
  } catch (error) {
    if (error instanceof URIError) throw refuse('its percent-encoding is broken');
    throw error;
  }
}
