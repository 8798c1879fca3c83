import { accessSync, constants, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The file names of the agent's HAProxy feed, as `docs/feeds.md` has them. */
const [CERTIFICATE, CRT_LIST, AUTHORITIES] = ['svid.pem', 'crt-list.txt', 'ca.pem'] as const;

/** Where the parts of one workload's HAProxy lie. */
export interface SidecarPaths {
  readonly configuration: string;
  /** Where it takes commands from the agent. */
  readonly adminSocket: string;
  /** The folder that the agent's HAProxy feed writes to. */
  readonly files: string;
  /** Between the workload and its proxy: plain text, on a Unix socket of the workload's own folder. */
  readonly workloadSocket: string;
}

/** Where HAProxy is on PATH; undefined where it is not. */
export function haproxyOnPath(path: string | undefined): string | undefined {
  return (path ?? '')
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, 'haproxy'))
    .find(isExecutable);
}

/** The file of trust anchors that the agent keeps, PEM. */
export function anchorsIn(files: string): string {
  return join(files, AUTHORITIES);
}

/** The paths below the folder of one workload. */
export function sidecarPaths(folder: string): SidecarPaths {
  return {
    configuration: join(folder, 'haproxy.cfg'),
    adminSocket: join(folder, 'admin.sock'),
    files: join(folder, 'files'),
    workloadSocket: join(folder, 'plain.sock'),
  };
}

/** Writes the configuration of the proxy before `echo`: takes mTLS on `port`, hands on plain text. */
export function writeServerSidecar(paths: SidecarPaths, port: number): void {
  const { files, workloadSocket } = paths;
  write(
    paths,
    `
frontend mtls
  bind 127.0.0.1:${port} ssl crt-list ${files}/${CRT_LIST} ca-file ${files}/${AUTHORITIES} verify required no-tls-tickets
  default_backend workload
backend workload
  server workload unix@${workloadSocket}
`,
  );
}

/** Writes the configuration of the proxy before `web`: takes plain text, and speaks mTLS to `port`. */
export function writeClientSidecar(paths: SidecarPaths, port: number): void {
  const { files, workloadSocket } = paths;
  write(
    paths,
    `
frontend outbound
  bind unix@${workloadSocket} mode 600
  default_backend echo
backend echo
  server echo 127.0.0.1:${port} ssl crt ${files}/${CERTIFICATE} ca-file ${files}/${AUTHORITIES} verify required no-ssl-reuse
`,
  );
}

function write({ configuration, adminSocket }: SidecarPaths, sections: string): void {
  writeFileSync(
    configuration,
    `global
  stats socket ${adminSocket} mode 600 level admin
  tune.ssl.cachesize 0
  log stdout format raw local0 notice
defaults
  mode tcp
  log global
  timeout connect 5s
  timeout client 1h
  timeout server 1h
${sections}`,
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
