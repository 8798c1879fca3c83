import { randomUUID } from 'node:crypto';

/** Which server the fake answers as: they differ in more than the version. */
export type VaultFlavour = 'vault-1.8' | 'openbao-2.6';

/** What the fake answers. */
export interface VaultAnswer {
  readonly status: number;
  /** JSON, or text with its content type. */
  readonly json?: object;
  readonly text?: string;
  readonly contentType?: string;
}

/** A refusal: what is in `errors`. `wrapped` as Vault writes a Go error of an authenticated path. */
export class VaultRefusal extends Error {
  readonly status: number;
  readonly errors: readonly string[];

  constructor(status: number, errors: readonly string[], wrapped = false) {
    super(errors.join('; '));
    this.status = status;
    this.errors = wrapped ? errors.map((error) => `1 error occurred:\n\t* ${error}\n\n`) : errors;
  }
}

/** A Go error: wrapped where a token went with the request, plain on a public path. */
export class VaultFailure extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The envelope of an answer with `data`. */
export function dataAnswer(data: object | null, warnings: readonly string[] = []): VaultAnswer {
  return { status: 200, json: envelope({ data, warnings: warnings.length === 0 ? null : warnings }) };
}

/** The envelope of an answer with `auth`. */
export function authAnswer(auth: object): VaultAnswer {
  return { status: 200, json: envelope({ data: null, auth }) };
}

export const NO_CONTENT: VaultAnswer = { status: 204, text: '', contentType: 'application/json' };

function envelope(members: object): object {
  return {
    request_id: randomUUID(),
    lease_id: '',
    renewable: false,
    lease_duration: 0,
    data: null,
    wrap_info: null,
    warnings: null,
    auth: null,
    ...members,
  };
}

/** Seconds of a duration as Vault takes it: a number of seconds, or text such as `720h`; undefined where absent. */
export function seconds(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string' || value === '') return undefined;
  const match = /^(\d+)(s|m|h|d)?$/.exec(value);
  if (match === null) throw new VaultRefusal(400, [`error converting input ${value} for field`]);
  const unit = { s: 1, m: 60, h: 3_600, d: 86_400 }[match[2] ?? 's'] ?? 1;
  return Number(match[1]) * unit;
}

/** A member that is text; empty where it is absent. */
export function textOf(body: Readonly<Record<string, unknown>>, name: string): string {
  const value = body[name];
  return typeof value === 'string' ? value : '';
}

/** One request, read. */
export interface VaultRequest {
  readonly method: string;
  /** Behind `/v1/`. */
  readonly path: string;
  readonly token: string | undefined;
  readonly namespace: string | undefined;
  readonly body: Readonly<Record<string, unknown>>;
  /** Subject CN of the TLS client certificate; undefined without one. */
  readonly clientCommonName: string | undefined;
}
