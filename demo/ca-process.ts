import { join } from 'node:path';
import type { Children } from './children.ts';

/** Lifetimes so short that each rotation can be watched: an SVID renews every ten seconds or so, an issuer in ninety. */
const LIFETIMES = [
  ['--svid-ttl', '20s'],
  ['--svid-backdate', '1s'],
  ['--issuer-lifetime', '120s'],
  ['--issuer-renew-after', '80s'],
  ['--anchor-lifetime', '7d'],
] as const;

const LISTEN = [
  ['--grpc-address', '127.0.0.1:0'],
  ['--http-address', '127.0.0.1:0'],
] as const;

/** The CA of the demo, once it serves. */
export interface StartedCa {
  readonly dataFolder: string;
  /** `host:port` of gRPC over TLS. */
  readonly address: string;
  /** `host:port` of metrics and probes. */
  readonly httpAddress: string;
  /** gRPC target of the admin socket. */
  readonly adminTarget: string;
}

/**
 * Starts `kedge ca` on two ports that the system chooses, so that no port is ever taken. Resolves when it serves;
 * its own log tells where.
 */
export async function startCa(children: Children, folder: string, trustDomain: string): Promise<StartedCa> {
  const dataFolder = join(folder, 'ca');
  const started = Promise.withResolvers<StartedCa>();
  children.start({
    name: 'the CA',
    argv: [
      'bin/kedge.mjs',
      'ca',
      ...[...LISTEN, ...LIFETIMES].flat(),
      '--trust-domain',
      trustDomain,
      '--data',
      dataFolder,
    ],
    onLine: (line) => {
      const addresses = startedAddresses(line);
      if (addresses !== undefined) started.resolve({ dataFolder, ...addresses });
    },
  });
  return await Promise.race([started.promise, children.died]);
}

/** What the line of the log says that tells of the start; undefined for every other line. */
function startedAddresses(line: string): Omit<StartedCa, 'dataFolder'> | undefined {
  if (!line.includes('"event":"ca.started"')) return undefined;
  const { grpcAddress, httpAddress, adminSocket } = JSON.parse(line) as Readonly<Record<string, string>>;
  if (grpcAddress === undefined || httpAddress === undefined || adminSocket === undefined) return undefined;
  return { address: grpcAddress, httpAddress, adminTarget: `unix://${adminSocket}` };
}
