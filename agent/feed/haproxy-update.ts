import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import {
  checkAbort,
  checkCommit,
  type HaproxyProcess,
  parseCrtLists,
  parseInfo,
  parseSet,
  parseShownAuthorities,
  parseShownCertificate,
  parseTransaction,
  type ShownAuthorities,
  type ShownCertificate,
} from './haproxy-answers.ts';
import {
  abortCommand,
  commitCommand,
  type HaproxyFile,
  listCommand,
  setCommands,
  SHOW_CRT_LISTS,
  SHOW_INFO,
  showCommand,
} from './haproxy-commands.ts';
import type { HaproxyMaterial, MaterialPart } from './haproxy-material.ts';
import { addsAuthorities, forgetsVerification, replacesTrustSafely } from './haproxy-version.ts';

/** Sends a command to one HAProxy and gives the answer; throws as `askHaproxy` does. */
export type AskHaproxy = (command: string) => Promise<string>;

/** The files that a HAProxy must have loaded, by the paths of its configuration. */
export interface HaproxyFiles {
  readonly certificate: HaproxyFile;
  readonly authorities: HaproxyFile;
  /** Absent = the HAProxy checks no CRL. */
  readonly crls?: HaproxyFile;
  /** The crt-list that a HAProxy before 3.0 must have loaded; null = it is not asked for. See {@link updateHaproxy}. */
  readonly crtList: string | null;
}

/** What is known of one HAProxy between two updates. Written by {@link updateHaproxy} alone. */
export interface HaproxyLedger {
  /** The process that all else is about; null = look at everything anew. */
  processId: string | null;
  /** The CRLs that were committed to it; it shows no fingerprint of those. */
  crls: MaterialPart | null;
  /** The PEM of CAs that it was given, by fingerprint: HAProxy shows no PEM. */
  authorities: ReadonlyMap<string, string>;
  /** The material whose certificate it was last shown to have in use; null = not known. */
  certificate: HaproxyMaterial | null;
}

/** A ledger of a HAProxy that nothing is known of. */
export function emptyLedger(): HaproxyLedger {
  return { processId: null, crls: null, authorities: new Map(), certificate: null };
}

/** What one update is given. */
export interface HaproxyUpdate {
  readonly ask: AskHaproxy;
  readonly files: HaproxyFiles;
  /** Longest command that HAProxy takes, bytes. */
  readonly maxCommandBytes: number;
  /** Told of each transaction of an earlier process that was dropped. */
  readonly onLeftover: (file: HaproxyFile) => void;
}

/**
 * Makes what a HAProxy has in use what it is to hold, and proves it by what HAProxy shows. What it has already is left
 * alone, so that calling this again and again is how a restart is noticed. With null it only cleans up.
 *
 *  1. `show info`: a process that is not the one of last time has lost what it was given
 *  2. of a new process: drop the transactions on our files that an earlier agent left open; and where it
 *     {@link forgetsVerification} make sure that it uses our crt-list: without, it would serve everybody
 *  3. CRLs: a revoked peer is refused as early as can be
 *  4. CAs, those in use and the new ones together: make before break
 *  5. the certificate with its key, in one command: never a new key with an old certificate. After 4, as this HAProxy
 *     may be its own peer
 *  6. CAs, the new ones alone: after 5, for the same reason
 *
 * 3, 4 and 6 are not done where HAProxy does not survive them: see {@link replacesTrustSafely}. Then
 * `haproxy_reload_needed` says that the files wait for a reload or restart.
 *
 * A refusal in 3, 4 or 5 does not keep the later steps from being done, since an SVID must not expire for a CRL that
 * is too large; the first refusal is thrown at the end. Throws `haproxy_unreachable`, `haproxy_refused`,
 * `haproxy_answer_invalid`, `haproxy_payload_too_large`, `haproxy_config_unusable`,
 * `haproxy_reload_needed`.
 */
export async function updateHaproxy(
  update: HaproxyUpdate,
  material: HaproxyMaterial | null,
  ledger: HaproxyLedger,
): Promise<void> {
  const { ask, files } = update;
  const process = parseInfo(await ask(SHOW_INFO));
  if (ledger.processId !== process.id) await meetProcess(update, process, ledger);
  if (material === null) return;
  const replace: ReplaceFile = async (file, part) => {
    if (file.kind !== 'cert' && !replacesTrustSafely(process.version)) throw reloadNeeded(file);
    await replaceFile(update, file, part.blocks, addsAuthorities(process.version));
  };
  const faults: KedgeError[] = [];
  const step = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!isKedgeError(error) || error.code === 'haproxy_unreachable') throw error;
      faults.push(error);
    }
  };
  const { crls } = files;
  if (crls !== undefined && !isSamePart(ledger.crls, material.crls)) {
    await step(async () => {
      ledger.crls = null;
      await replace(crls, material.crls);
      ledger.crls = material.crls;
    });
  }
  const known = new Map([...ledger.authorities, ...pemByFingerprint(material.authorities)]);
  ledger.authorities = known;
  await step(async () => {
    try {
      await replaceAuthorities(update, replace, (held) => withHeld(held, known, material.authorities));
    } catch (error) {
      // Step 6 says so again. The old and the new together may be too large where the new alone are not.
      if (!isKedgeError(error, 'haproxy_payload_too_large', 'haproxy_reload_needed')) throw error;
    }
  });
  await step(async () => {
    await replaceCertificate(update, replace, material.certificate);
    ledger.certificate = material;
  });
  await step(async () => {
    const { isUsed } = await replaceAuthorities(update, replace, () => material.authorities);
    if (!isUsed) throw verifiesNobody(files.authorities);
  });
  if (faults[0] !== undefined) throw faults[0];
  ledger.authorities = pemByFingerprint(material.authorities);
}

type ReplaceFile = (file: HaproxyFile, part: MaterialPart) => Promise<void>;

/** Steps 1 and 2 of {@link updateHaproxy}: a process that nothing is known of. */
async function meetProcess(
  update: HaproxyUpdate,
  { id, version }: HaproxyProcess,
  ledger: HaproxyLedger,
): Promise<void> {
  ledger.processId = null;
  ledger.crls = null;
  ledger.certificate = null;
  for (const file of allFiles(update.files)) await dropLeftover(update, file);
  if (forgetsVerification(version)) await checkCrtList(update);
  ledger.processId = id;
}

function reloadNeeded({ path }: HaproxyFile): KedgeError {
  return new KedgeError(
    'haproxy_reload_needed',
    `${quote(path, 200)} has changed, and this HAProxy must be reloaded for it`,
    {
      hint: 'the file is in place: reload or restart HAProxy; 3.2.8 and newer of 3.2, and 3.3 and newer, take it without',
    },
  );
}

function allFiles({ certificate, authorities, crls }: HaproxyFiles): HaproxyFile[] {
  return [...(crls === undefined ? [] : [crls]), authorities, certificate];
}

async function dropLeftover({ ask, onLeftover }: HaproxyUpdate, file: HaproxyFile): Promise<void> {
  const path = parseTransaction(await ask(listCommand(file.kind)), file.kind);
  if (path !== file.path) return;
  checkAbort(await ask(abortCommand(file)), file);
  onLeftover(file);
}

async function checkCrtList({ ask, files: { crtList } }: HaproxyUpdate): Promise<void> {
  if (crtList === null || parseCrtLists(await ask(SHOW_CRT_LISTS)).includes(crtList)) return;
  throw new KedgeError(
    'haproxy_config_unusable',
    `HAProxy has not loaded the crt-list ${quote(crtList, 200)}`,
    {
      hint:
        'before 3.0, HAProxy stops to verify clients once a certificate that "bind ... crt" names is replaced: write ' +
        '"bind ... crt-list" with this path; where only "server" lines use the certificate, set haproxyServerLinesOnly',
    },
  );
}

/**
 * One transaction: what is in use changes at once with the commit, or not at all.
 *
 * HAProxy has one transaction for each kind of file. One of ours is a leftover; one of somebody else is left alone, and
 * ours waits: 2.6 would put our key into it. Whatever fails after the `set`, the transaction is dropped again.
 */
async function replaceFile(
  { ask, maxCommandBytes, onLeftover }: HaproxyUpdate,
  file: HaproxyFile,
  blocks: readonly string[],
  mayAdd: boolean,
): Promise<void> {
  const commands = setCommands(file, blocks, { maxBytes: maxCommandBytes, mayAdd });
  const open = parseTransaction(await ask(listCommand(file.kind)), file.kind);
  if (open === file.path) {
    checkAbort(await ask(abortCommand(file)), file);
    onLeftover(file);
  } else if (open !== null) {
    throw new KedgeError('haproxy_refused', `somebody else has a transaction open on ${quote(open, 200)}`, {
      hint: 'it is tried again; commit or abort that transaction',
    });
  }
  let touched = file.path;
  try {
    for (const command of commands) {
      const path = parseSet(await ask(command), file);
      touched = path;
      if (path !== file.path)
        throw new KedgeError('haproxy_refused', 'another transaction was opened meanwhile');
    }
    checkCommit(await ask(commitCommand(file)), file);
  } catch (error) {
    await ask(abortCommand({ kind: file.kind, path: touched })).catch(() => {});
    throw error;
  }
}

async function replaceCertificate(
  { ask, files: { certificate } }: HaproxyUpdate,
  replace: ReplaceFile,
  part: MaterialPart,
): Promise<void> {
  const [wanted] = part.fingerprints;
  const show = async (): Promise<ShownCertificate> =>
    parseShownCertificate(await ask(showCommand(certificate)), certificate);
  let shown = await show();
  if (shown.fingerprint !== wanted) {
    await replace(certificate, part);
    shown = await show();
  }
  if (shown.fingerprint !== wanted) {
    throw new KedgeError('haproxy_answer_invalid', 'HAProxy committed a certificate and shows another');
  }
  if (!shown.isUsed) throw presentsNothing(certificate);
}

/** So it is where somebody committed a CA file to a HAProxy that is not one that {@link replacesTrustSafely}. */
function presentsNothing({ path }: HaproxyFile): KedgeError {
  return new KedgeError('haproxy_config_unusable', `HAProxy has ${quote(path, 200)} and uses it nowhere`, {
    hint: 'name it in a crt-list of a "bind" line or as crt of a "server" line, then restart HAProxy',
  });
}

/** `choose` is given what is in use, and gives what is to be. */
async function replaceAuthorities(
  { ask, files: { authorities } }: HaproxyUpdate,
  replace: ReplaceFile,
  choose: (held: readonly string[]) => MaterialPart,
): Promise<ShownAuthorities> {
  const before = parseShownAuthorities(await ask(showCommand(authorities)), authorities);
  const part = choose(before.fingerprints);
  if (isSameSet(before.fingerprints, part.fingerprints)) return before;
  await replace(authorities, part);
  const after = parseShownAuthorities(await ask(showCommand(authorities)), authorities);
  if (!isSameSet(after.fingerprints, part.fingerprints)) {
    throw new KedgeError('haproxy_answer_invalid', 'HAProxy committed a CA file and shows another');
  }
  return after;
}

function verifiesNobody({ path }: HaproxyFile): KedgeError {
  return new KedgeError('haproxy_config_unusable', `HAProxy verifies nobody by ${quote(path, 200)}`, {
    hint: 'give each "bind" and "server" line with the certificate this ca-file and "verify required", then restart HAProxy',
  });
}

/** The new CAs, and those in use of which the PEM is known. */
function withHeld(
  held: readonly string[],
  known: ReadonlyMap<string, string>,
  { blocks, fingerprints }: MaterialPart,
): MaterialPart {
  const leaving = held.filter((fingerprint) => !fingerprints.includes(fingerprint) && known.has(fingerprint));
  return {
    blocks: [...blocks, ...leaving.map((fingerprint) => known.get(fingerprint) ?? '')],
    fingerprints: [...fingerprints, ...leaving],
  };
}

function pemByFingerprint({ fingerprints, blocks }: MaterialPart): ReadonlyMap<string, string> {
  return new Map(fingerprints.map((fingerprint, index) => [fingerprint, blocks[index] ?? '']));
}

function isSamePart(a: MaterialPart | null, b: MaterialPart): boolean {
  return a !== null && a.blocks.join('') === b.blocks.join('');
}

function isSameSet(a: readonly string[], b: readonly string[]): boolean {
  return new Set(a).size === new Set(b).size && a.every((value) => b.includes(value));
}
