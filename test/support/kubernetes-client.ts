import { createSecureContext } from 'node:tls';
import { type Clock, systemClock } from '../../host/clock.ts';
import { ApiConnection, type ApiCredentials } from '../../ca/kubernetes/api-connection.ts';
import { KubernetesClient } from '../../ca/kubernetes/kubernetes-client.ts';

/** Credentials that never change. */
export function fixedCredentials(authorization?: string, ca?: string): ApiCredentials {
  const presented = { authorization, secureContext: createSecureContext(ca === undefined ? {} : { ca }) };
  return { present: () => presented, refused: () => {} };
}

/** A client for an API server in this process. */
export function clientOf(
  url: string,
  options: {
    readonly clock?: Clock;
    readonly timeoutMs?: number;
    readonly connections?: number;
    readonly credentials?: ApiCredentials;
  } = {},
): KubernetesClient {
  const { clock = systemClock, timeoutMs = 60_000, connections = 8 } = options;
  const credentials = options.credentials ?? fixedCredentials('Bearer test');
  const connection = new ApiConnection({ server: new URL(url), credentials, connections });
  return new KubernetesClient({ connection, namespace: 'default', clock, timeoutMs });
}
