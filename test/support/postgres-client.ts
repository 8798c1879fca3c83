import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls, type SecureContextOptions, type TLSSocket } from 'node:tls';

/** What {@link PostgresConnection.open} is given. */
export interface PostgresOptions {
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** Client certificate, key and anchors. */
  readonly tls: SecureContextOptions;
}

interface Message {
  readonly type: string;
  readonly body: Buffer;
}

/** SSLRequest and StartupMessage of protocol 3.0 (PostgreSQL documentation, "Message Formats"). */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
const PROTOCOL_3_0 = 196_608;
const TIMEOUT_MS = 10_000;

/**
 * A connection to PostgreSQL by mTLS and SCRAM-SHA-256, as much as the tests need: any client would do, and this one
 * shows the certificate that the server presented.
 */
export class PostgresConnection {
  readonly #socket: TLSSocket;
  readonly #messages: AsyncGenerator<Message>;

  /** Rejects when any step fails: nothing is tried twice. */
  static async open({ port, user, password, tls }: PostgresOptions): Promise<PostgresConnection> {
    const plain = connectTcp(port, '127.0.0.1');
    plain.setTimeout(TIMEOUT_MS, () => plain.destroy(new Error('no answer from PostgreSQL in time')));
    await once(plain, 'connect');
    plain.write(SSL_REQUEST);
    const [answer] = (await once(plain, 'data')) as [Buffer];
    if (answer.toString('latin1') !== 'S') throw new Error('PostgreSQL does not offer TLS');
    const socket = connectTls({ ...tls, socket: plain, checkServerIdentity: () => undefined });
    await once(socket, 'secureConnect');
    const connection = new PostgresConnection(socket);
    try {
      await connection.#authenticate(user, password);
    } catch (error) {
      connection.close();
      throw error;
    }
    return connection;
  }

  private constructor(socket: TLSSocket) {
    this.#socket = socket;
    this.#messages = messagesOf(socket);
  }

  /** Serial number of the server's certificate, upper-case hex. */
  get serverSerial(): string {
    return this.#socket.getPeerX509Certificate()?.serialNumber ?? '';
  }

  /** The first column of the first row, as text. */
  async query(sql: string): Promise<string> {
    this.#send('Q', Buffer.from(`${sql}\0`));
    let value = '';
    for (;;) {
      const { type, body } = await this.#next();
      // DataRow: number of columns, then length and bytes of each.
      if (type === 'D') value = body.subarray(6, 6 + body.readInt32BE(2)).toString('utf8');
      if (type === 'Z') return value;
    }
  }

  close(): void {
    this.#socket.end();
    this.#socket.destroy();
  }

  /** RFC 5802 with SHA-256 and without channel binding, which PostgreSQL calls SCRAM-SHA-256. */
  async #authenticate(user: string, password: string): Promise<void> {
    const parameters = Buffer.from(`user\0${user}\0database\0postgres\0\0`);
    const startup = Buffer.alloc(8 + parameters.length);
    startup.writeInt32BE(startup.length, 0);
    startup.writeInt32BE(PROTOCOL_3_0, 4);
    parameters.copy(startup, 8);
    this.#socket.write(startup);
    await this.#authenticationRequest(10);

    const nonce = randomBytes(18).toString('base64');
    const clientFirst = `n=,r=${nonce}`;
    const initial = Buffer.from(`n,,${clientFirst}`);
    const length = Buffer.alloc(4);
    length.writeInt32BE(initial.length);
    this.#send('p', Buffer.concat([Buffer.from('SCRAM-SHA-256\0'), length, initial]));

    const serverFirst = (await this.#authenticationRequest(11)).toString('utf8');
    const [, combined = '', salt = '', iterations = ''] =
      /^r=([^,]+),s=([^,]+),i=(\d+)$/.exec(serverFirst) ?? [];
    const salted = pbkdf2Sync(password, Buffer.from(salt, 'base64'), Number(iterations), 32, 'sha256');
    const clientKey = createHmac('sha256', salted).update('Client Key').digest();
    const storedKey = createHash('sha256').update(clientKey).digest();
    const withoutProof = `c=biws,r=${combined}`;
    const signature = createHmac('sha256', storedKey)
      .update(`${clientFirst},${serverFirst},${withoutProof}`)
      .digest();
    const proof = clientKey.map((octet, index) => octet ^ (signature[index] ?? 0));
    this.#send('p', Buffer.from(`${withoutProof},p=${Buffer.from(proof).toString('base64')}`));
    await this.#authenticationRequest(12);
    await this.#authenticationRequest(0);
    while ((await this.#next()).type !== 'Z');
  }

  async #authenticationRequest(kind: number): Promise<Buffer> {
    const { type, body } = await this.#next();
    if (type !== 'R' || body.readInt32BE(0) !== kind)
      throw new Error(`PostgreSQL answers ${type} where authentication request ${kind} was expected`);
    return body.subarray(4);
  }

  #send(type: string, body: Buffer): void {
    const head = Buffer.alloc(5);
    head.write(type, 0, 'latin1');
    head.writeInt32BE(body.length + 4, 1);
    this.#socket.write(Buffer.concat([head, body]));
  }

  async #next(): Promise<Message> {
    const { value, done } = await this.#messages.next();
    if (done === true) throw new Error('PostgreSQL closed the connection');
    if (value.type === 'E')
      throw new Error(`PostgreSQL: ${value.body.toString('utf8').replaceAll('\0', ' ')}`);
    return value;
  }
}

async function* messagesOf(socket: TLSSocket): AsyncGenerator<Message, undefined> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 5 && rest.length >= 1 + rest.readInt32BE(1)) {
      const end = 1 + rest.readInt32BE(1);
      yield { type: rest.toString('latin1', 0, 1), body: rest.subarray(5, end) };
      rest = rest.subarray(end);
    }
  }
  return undefined;
}
