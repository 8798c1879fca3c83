import { createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { KubernetesCluster } from '../support/kubernetes-cluster.ts';

const PODS = 200;
const SERVICE_ACCOUNTS = 20;
const NAMESPACE = 'bench';

/**
 * So many different tokens, of pods that take turns. A few come from TokenRequest, as the kubelet gets them; the others are
 * the same with other times of expiry, signed with the API server's key, which makes them in seconds and not in minutes.
 */
export async function reviewedTokens(cluster: KubernetesCluster, count: number): Promise<readonly string[]> {
  await cluster.createNamespace(NAMESPACE);
  for (let index = 0; index < SERVICE_ACCOUNTS; index += 1)
    await cluster.createServiceAccount(NAMESPACE, `account-${index}`);
  const tokens: string[] = [];
  for (let index = 0; index < PODS; index += 1) {
    const serviceAccount = `account-${index % SERVICE_ACCOUNTS}`;
    const pod = await cluster.createPod(NAMESPACE, `pod-${index}`, { serviceAccount, nodeName: 'node-1' });
    tokens.push(await cluster.tokenFor(NAMESPACE, { serviceAccount, pod }));
  }
  const key = createPrivateKey(readFileSync(cluster.serviceAccountKeyFile));
  for (let index = PODS; index < count; index += 1) {
    tokens.push(expiringLater(tokens[index % PODS] ?? '', Math.floor(index / PODS), key));
  }
  return tokens;
}

function expiringLater(token: string, seconds: number, key: KeyObject): string {
  const [header = '', payload = ''] = token.split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { readonly exp: number };
  const later = Buffer.from(JSON.stringify({ ...claims, exp: claims.exp + seconds })).toString('base64url');
  const signature = sign('RSA-SHA256', Buffer.from(`${header}.${later}`), key);
  return `${header}.${later}.${signature.toString('base64url')}`;
}
