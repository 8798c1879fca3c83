import { LIMITS } from '../../pki/limits.ts';
import { answerInvalid, isJsonObject, parseJson, readObject, readResourceVersion } from './api-answer.ts';
import { refusalOfEvent, type RefusedRequest } from './api-refusal.ts';
import type { WatchEvent } from './kubernetes-api.ts';
import type { ResourceType } from './objects.ts';

const LINE_FEED = 0x0a;

const KINDS: ReadonlyMap<unknown, 'added' | 'modified' | 'deleted'> = new Map([
  ['ADDED', 'added'],
  ['MODIFIED', 'modified'],
  ['DELETED', 'deleted'],
] as const);

/**
 * The lines of a byte stream, without their line feeds, each at most `LIMITS.kubernetesObjectBytes`; empty ones are
 * passed over. What the stream ends with and no line feed after it was cut off: it is dropped, a watch goes on from the
 * last whole event. Throws `kubernetes_answer_invalid`.
 */
export async function* linesOf(stream: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream) {
    let from = 0;
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, from)) {
      const last = chunk.subarray(from, end);
      from = end + 1;
      checkLength(length + last.length, what);
      const line = parts.length === 0 ? last : Buffer.concat([...parts, last]);
      parts = [];
      length = 0;
      if (line.length > 0) yield line;
    }
    const rest = chunk.subarray(from);
    length += rest.length;
    checkLength(length, what);
    if (rest.length > 0) parts.push(rest);
  }
}

/**
 * One line of a watch. Throws `kubernetes_answer_invalid`, and for an `ERROR` event what it says: mostly
 * `kubernetes_gone`. https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes.
 */
export function parseWatchEvent(line: Uint8Array, type: ResourceType, request: RefusedRequest): WatchEvent {
  const what = `an event of ${request.what}`;
  const event = parseJson(line, what);
  if (!isJsonObject(event)) throw answerInvalid(what, 'is not a JSON object');
  const kind = KINDS.get(event['type']);
  if (kind !== undefined) {
    const object = readObject(event['object'], type, what);
    readResourceVersion(object, what);
    return { kind, object };
  }
  if (event['type'] === 'BOOKMARK') {
    return { kind: 'bookmark', resourceVersion: readResourceVersion(event['object'], what) };
  }
  if (event['type'] === 'ERROR') throw refusalOfEvent(event['object'], request);
  throw answerInvalid(what, 'is of no type that Kubernetes has');
}

function checkLength(length: number, what: string): void {
  if (length > LIMITS.kubernetesObjectBytes) {
    throw answerInvalid(`an event of ${what}`, `is over ${LIMITS.kubernetesObjectBytes} bytes`);
  }
}
