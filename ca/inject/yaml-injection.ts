import { isDeepStrictEqual } from 'node:util';
import { type Document, LineCounter, parseAllDocuments } from 'yaml';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { INJECT_KEY } from '../kubernetes/cluster-names.ts';
import { applyEdits, coalesced, type Edit } from './edit.ts';
import { type Injection, type InjectionContext, injectPod } from './injection.ts';
import { isMap, type Json } from './json.ts';
import { namespacesOf, type Workload, workloadsOf } from './workloads.ts';
import { type Splice, spliced, spliceOf } from './yaml-splice.ts';

/** What {@link injectYaml} goes by. */
export interface YamlInjectionOptions
  extends Pick<InjectionContext, 'settings' | 'capabilities' | 'ownNamespace'> {
  /** Takes every namespace for a meshed one, unless its label says otherwise. */
  readonly everyNamespace: boolean;
  /** The name of the input, for messages. */
  readonly file: string;
}

/** What became of one workload. */
export interface WorkloadOutcome {
  /** As people name it: `deployment/web`. */
  readonly name: string;
  readonly injection: Injection;
}

/** How deep aliases may multiply what a document says. */
const MAX_ALIASES = 100;

/**
 * Gives every meshed workload in a stream of YAML or JSON manifests its agent, and leaves everything else as it was
 * written, byte for byte. All or nothing: throws `message_too_large`, `manifest_malformed`, `manifest_unsupported`, or
 * what {@link injectPod} refuses a pod with, naming the workload.
 *
 * A pod's namespace counts as labelled where the stream holds that namespace with the label.
 */
export function injectYaml(
  text: string,
  options: YamlInjectionOptions,
): { readonly text: string; readonly outcomes: readonly WorkloadOutcome[] } {
  if (text.length > LIMITS.manifestChars) {
    throw new KedgeError('message_too_large', `${options.file} is over ${LIMITS.manifestChars} characters`);
  }
  const documents = readStream(text, options.file);
  const namespaces = new Map(documents.flatMap(({ value }) => namespacesOf(value)));
  const outcomes: WorkloadOutcome[] = [];
  const splices: Splice[] = [];
  const wanted = documents.map(({ document, value }): Json => {
    const edits: Edit[] = [];
    for (const workload of workloadsOf(value)) {
      const context = contextOf(workload, namespaces, options);
      const injection = named(workload, () => injectPod(workload.pod, context));
      outcomes.push({ name: workload.name, injection });
      if (injection.kind !== 'injected') continue;
      edits.push(...injection.edits.map((edit) => ({ ...edit, path: [...workload.path, ...edit.path] })));
    }
    splices.push(...coalesced(edits).map((edit) => spliceOf(text, document, edit)));
    return applyEdits(value, edits);
  });
  if (splices.length === 0) return { text, outcomes };
  const result = spliced(text, splices);
  checkMeaning(result, wanted, options.file);
  return { text: result, outcomes };
}

/** What was spliced must read as what was meant: no form of YAML is so odd that it could slip through. */
function checkMeaning(text: string, wanted: readonly Json[], file: string): void {
  const read = readStream(text, file);
  const odd = wanted.findIndex((value, i) => !isDeepStrictEqual(read[i]?.value, value));
  if (odd < 0 && read.length === wanted.length) return;
  throw new KedgeError(
    'manifest_unsupported',
    `${file}: document ${odd + 1} cannot be added to as it is written`,
    {
      hint: 'write it without YAML anchors, tags and explicit keys',
    },
  );
}

function contextOf(
  { namespace }: Workload,
  namespaces: ReadonlyMap<string, Json | undefined>,
  { everyNamespace, ...context }: YamlInjectionOptions,
): InjectionContext {
  const labels = namespace === null ? undefined : namespaces.get(namespace);
  const isSaid = isMap(labels) && Object.hasOwn(labels, INJECT_KEY);
  return {
    ...context,
    namespace: { name: namespace, labels: everyNamespace && !isSaid ? { [INJECT_KEY]: 'enabled' } : labels },
  };
}

interface Read {
  readonly document: Document;
  readonly value: Json;
}

function readStream(text: string, file: string): readonly Read[] {
  const lineCounter = new LineCounter();
  // YAML 1.1, as Kubernetes reads it: `yes` is true, and `<<` merges.
  const documents = parseAllDocuments(text, {
    version: '1.1',
    keepSourceTokens: true,
    lineCounter,
    prettyErrors: false,
    uniqueKeys: true,
  });
  if (!Array.isArray(documents)) return [];
  if (documents.length > LIMITS.manifestDocuments) {
    throw new KedgeError('message_too_large', `${file} has over ${LIMITS.manifestDocuments} documents`);
  }
  return documents.map((document): Read => {
    const [problem] = document.errors;
    const at = (offset: number): string => {
      const { line, col } = lineCounter.linePos(offset);
      return `${file}:${line}:${col}`;
    };
    if (problem !== undefined) throw malformed(`${at(problem.pos[0])}: ${problem.message}`);
    try {
      return { document, value: document.toJS({ maxAliasCount: MAX_ALIASES }) as Json };
    } catch (cause) {
      throw malformed(
        `${at(document.range[0])}: the document nests too deep, or its aliases say too much`,
        cause,
      );
    }
  });
}

function malformed(message: string, cause?: unknown): KedgeError {
  return new KedgeError('manifest_malformed', message, { hint: 'give manifests in YAML or JSON', cause });
}

function named<T>({ name, namespace }: Workload, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (!isKedgeError(cause)) throw cause;
    const where = namespace === null ? '' : ` in ${quote(namespace)}`;
    throw new KedgeError(cause.code, `${quote(name)}${where}: ${cause.message}`, {
      ...(cause.hint === undefined ? {} : { hint: cause.hint }),
      cause,
    });
  }
}
