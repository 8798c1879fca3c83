import { isUtf8 } from 'node:buffer';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { KubernetesObject, ObjectMeta, ResourceType } from './objects.ts';

/** How much of a text that is not what was expected goes into a message. */
const SHOWN_CHARS = 80;

/** The body of an answer as JSON. Throws `kubernetes_answer_invalid`; `what` names the answer in the message. */
export function parseJson(body: Uint8Array, what: string): unknown {
  if (!isUtf8(body)) throw answerInvalid(what, 'is not UTF-8');
  const text = Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8');
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the text, which may be a secret.
    const start = text.trimStart().slice(0, 1);
    throw answerInvalid(what, start === '<' ? 'is HTML, not JSON' : 'is not JSON, or is cut off');
  }
}

/** A JSON object with its own members. */
export type JsonMembers = Readonly<Record<string, unknown>>;

/** The members of a JSON value; none where it is no object. */
export function membersOf(value: unknown): JsonMembers {
  return isJsonObject(value) ? value : {};
}

/** Whether a JSON value is an object. */
export function isJsonObject(value: unknown): value is JsonMembers {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * An object of the wanted type. `implied` is true for items of a list, which do not repeat their apiVersion and kind.
 * Throws `kubernetes_answer_invalid`.
 */
export function readObject(
  value: unknown,
  type: ResourceType,
  what: string,
  implied = false,
): KubernetesObject {
  if (!isJsonObject(value)) throw answerInvalid(what, 'is not a JSON object');
  const { apiVersion = implied ? type.apiVersion : undefined, kind = implied ? type.kind : undefined } =
    value;
  if (apiVersion !== type.apiVersion || kind !== type.kind) {
    throw answerInvalid(
      what,
      `is ${named(kind)} of ${named(apiVersion)}, not ${type.kind} of ${type.apiVersion}`,
    );
  }
  return { ...value, apiVersion, kind, metadata: readMeta(value['metadata'] ?? {}, what) };
}

/** The `metadata.resourceVersion` of a list or a bookmark. Throws `kubernetes_answer_invalid`. */
export function readResourceVersion(value: unknown, what: string): string {
  const metadata = isJsonObject(value) ? value['metadata'] : undefined;
  const version = isJsonObject(metadata) ? metadata['resourceVersion'] : undefined;
  if (typeof version !== 'string' || version === '') throw answerInvalid(what, 'has no resourceVersion');
  return version;
}

/** The plural names in an APIResourceList. Throws `kubernetes_answer_invalid`. */
export function readServedNames(list: unknown, what: string): ReadonlySet<string> {
  const resources = isJsonObject(list) ? list['resources'] : undefined;
  if (!Array.isArray(resources)) throw answerInvalid(what, 'is not an APIResourceList');
  return new Set(
    resources.flatMap((one: unknown) =>
      isJsonObject(one) && typeof one['name'] === 'string' ? [one['name']] : [],
    ),
  );
}

/** The refusal of an answer. `problem` holds no secret. */
export function answerInvalid(what: string, problem: string, cause?: unknown): KedgeError {
  return new KedgeError('kubernetes_answer_invalid', `${what} ${problem}`, {
    hint: 'check that the address is that of a Kubernetes API server, and what proxies stand before it',
    cause,
  });
}

const TEXTS = ['name', 'namespace', 'uid', 'resourceVersion', 'deletionTimestamp'] as const;
const TEXT_MAPS = ['labels', 'annotations'] as const;

function readMeta(value: unknown, what: string): ObjectMeta {
  if (!isJsonObject(value)) throw answerInvalid(what, 'has metadata that are not an object');
  for (const member of TEXTS) {
    const text = value[member];
    if (text !== undefined && text !== null && typeof text !== 'string') {
      throw answerInvalid(what, `has a metadata.${member} that is not a string`);
    }
  }
  for (const member of TEXT_MAPS) {
    const map = value[member];
    if (map === undefined || map === null) continue;
    if (!isJsonObject(map) || Object.values(map).some((text) => typeof text !== 'string')) {
      throw answerInvalid(what, `has metadata.${member} that are not strings by name`);
    }
  }
  // A member that is null says no more than one that is missing.
  const present = Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null));
  return { ...present, name: typeof present['name'] === 'string' ? present['name'] : '' };
}

function named(value: unknown): string {
  return typeof value === 'string' ? quote(value, SHOWN_CHARS) : 'nothing known';
}
