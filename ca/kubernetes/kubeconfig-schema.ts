import * as z from 'zod';

const text = z.string().max(1_024).optional();
const data = z
  .string()
  .max(256 * 1024)
  .optional();

const MAX_ITEMS = 64;

const EXEC = z.object({
  apiVersion: text,
  command: text,
  args: z.array(z.string().max(4_096)).max(MAX_ITEMS).nullish(),
  env: z
    .array(z.object({ name: z.string().min(1).max(256), value: z.string().max(4_096) }))
    .max(MAX_ITEMS)
    .nullish(),
  installHint: z.string().max(4_096).optional(),
  provideClusterInfo: z.boolean().optional(),
  interactiveMode: text,
});

/** What Kedge reads of a kubeconfig (`kind: Config`, version v1 of client-go's `clientcmd`); the rest is let pass. */
export const KUBECONFIG = z.object({
  'current-context': text,
  contexts: z
    .array(z.object({ name: z.string(), context: z.object({ cluster: text, user: text, namespace: text }) }))
    .nullish(),
  clusters: z
    .array(
      z.object({
        name: z.string(),
        cluster: z.object({
          server: text,
          'tls-server-name': text,
          'certificate-authority': text,
          'certificate-authority-data': data,
          'insecure-skip-tls-verify': z.boolean().optional(),
          'proxy-url': text,
          extensions: z
            .array(z.object({ name: z.string(), extension: z.unknown() }))
            .max(MAX_ITEMS)
            .nullish(),
        }),
      }),
    )
    .nullish(),
  users: z
    .array(
      z.object({
        name: z.string(),
        user: z
          .object({
            token: data,
            tokenFile: text,
            'client-certificate': text,
            'client-certificate-data': data,
            'client-key': text,
            'client-key-data': data,
            username: text,
            exec: EXEC.nullish(),
            'auth-provider': z.unknown().optional(),
            as: text,
          })
          .nullish(),
      }),
    )
    .nullish(),
});

/** A kubeconfig. */
export type Kubeconfig = z.infer<typeof KUBECONFIG>;
/** What it says of a cluster. */
export type Cluster = NonNullable<Kubeconfig['clusters']>[number]['cluster'];
/** What it says of a user's plugin. */
export type Exec = z.infer<typeof EXEC>;
/** What it says of a user. */
export type User = NonNullable<NonNullable<Kubeconfig['users']>[number]['user']>;
