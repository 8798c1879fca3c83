import type { Clock } from '../../../host/clock.ts';
import type { Log } from '../../../host/log.ts';
import type { Random } from '../../../host/random.ts';
import { type OnVaultCall, VaultClient } from './vault-client.ts';
import { VaultSession } from './vault-session.ts';
import type { VaultAccessSettings } from './vault-settings.ts';
import { VaultTls } from './vault-tls.ts';
import { VaultTransport } from './vault-transport.ts';

/** What {@link openVaultAccess} needs. */
export interface VaultAccessOptions {
  readonly settings: VaultAccessSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly onCall?: OnVaultCall;
}

/** A Vault that can be asked, as the one that its settings say. Nothing is sent before it is used. */
export interface VaultAccess {
  readonly client: VaultClient;
  readonly session: VaultSession;
  /** Ends the renewal of the token, and the idle connections. */
  close(): Promise<void>;
}

/** Puts client and session together, and keeps the session's token alive until it is closed. */
export function openVaultAccess(options: VaultAccessOptions): VaultAccess {
  const { settings, clock, random, log, onCall } = options;
  const transport = new VaultTransport({
    tls: new VaultTls({ settings, clock, log }),
    serverName: settings.serverName,
  });
  const client = new VaultClient({
    settings,
    transport,
    clock,
    ...(onCall === undefined ? {} : { onCall }),
  });
  const session = new VaultSession({ client, login: settings.login, clock, random, log });
  const stopping = new AbortController();
  const kept = session.keepAlive(stopping.signal);
  return {
    client,
    session,
    async close() {
      stopping.abort();
      await kept;
      transport.close();
    },
  };
}
