import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { SpiffeId, TrustDomain } from '../../pki/spiffe-id.ts';
import { type VerifiedSvid, verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { readBundleFile, readCertificates, trustDomainOfAuthorities } from '../certificate-input.ts';
import { type Command, type Invocation, OUTPUT_OPTION } from '../command.ts';
import { parseInstant } from '../instant.ts';
import { jsonDocument } from '../json-document.ts';
import { distanceText, textFields, timeText } from '../text-table.ts';

/** `kedge svid verify`. */
export const svidVerifyCommand: Command = {
  name: 'svid verify',
  summary: 'check an X.509-SVID chain against a trust bundle, by every rule of the standard',
  description: [
    'Reads a chain (PEM or DER, leaf first) and a bundle (a SPIFFE bundle, PEM or DER), and says whether the leaf is a valid X.509-SVID at the time given: SPIFFE ID, key usages, basic constraints, validity, signatures and path to an authority of its own trust domain. The first rule that is broken is named by its code, which docs/errors.md explains.',
    'A bundle counts for one trust domain only. It is the one that its authorities name in their URI SAN, unless --trust-domain says which.',
  ],
  positionals: [{ name: 'chain', required: true, help: 'the chain, leaf first; - is standard input' }],
  options: [
    { name: 'bundle', value: 'file', required: true, help: 'the trust bundle' },
    {
      name: 'trust-domain',
      value: 'name',
      help: 'the trust domain of the bundle',
      default: 'what the bundle says',
    },
    { name: 'id', value: 'SPIFFE ID', help: 'the SPIFFE ID that the leaf must carry' },
    { name: 'at', value: 'time', help: 'the time to judge by, as in 2026-01-31T12:00:00Z', default: 'now' },
    OUTPUT_OPTION,
  ],
  examples: [
    ['kedge svid verify svid.pem --bundle bundle.pem', 'is it valid now'],
    [
      'kedge svid verify svid.pem --bundle bundle.pem --id spiffe://example.org/ns/demo/sa/web',
      'and is it this workload',
    ],
  ],
  no: 'it is not valid; the code says which rule is broken',
  async run(invocation) {
    const { args, output, terminal, clock } = invocation;
    const at = args.value('at');
    const nowMs = at === undefined ? clock.now() : parseInstant('at', at);
    const verdict = await judge(invocation, nowMs);
    if (output === 'json') {
      terminal.stdout(
        jsonDocument({ valid: verdict.error === undefined, atMs: nowMs, ...jsonVerdict(verdict) }),
      );
    } else {
      terminal.stdout(`${textVerdict(verdict, nowMs).join('\n')}\n`);
    }
    return verdict.error === undefined ? 0 : 1;
  },
};

type Verdict =
  | { readonly svid: VerifiedSvid; readonly error?: undefined }
  | { readonly svid?: undefined; readonly error: KedgeError };

async function judge({ args }: Invocation, nowMs: number): Promise<Verdict> {
  const id = args.value('id');
  const expectedId = id === undefined ? undefined : usageOf('id', () => SpiffeId.parse(id));
  const { x509Authorities } = await readBundleFile(args.required('bundle'));
  const named = args.value('trust-domain');
  const trustDomain =
    named === undefined
      ? trustDomainOfAuthorities(x509Authorities)
      : usageOf('trust-domain', () => TrustDomain.parse(named));
  if (trustDomain === undefined) {
    throw new KedgeError('usage_invalid', 'the bundle does not say which trust domain it is of', {
      hint: 'name it with --trust-domain',
    });
  }
  try {
    const svid = verifyX509Svid({
      chain: [...(await readCertificates(args.positional(0)))],
      bundles: (asked) => (asked.equals(trustDomain) ? x509Authorities : undefined),
      nowMs,
      ...(expectedId === undefined ? {} : { expectedId }),
    });
    return { svid };
  } catch (error) {
    if (!isKedgeError(error) || isKedgeError(error, 'file_unreadable')) throw error;
    return { error };
  }
}

/** What is wrong with an option's value is wrong with the command line. */
function usageOf<T>(option: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!isKedgeError(error)) throw error;
    throw new KedgeError('usage_invalid', `--${option}: ${error.message}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    });
  }
}

function jsonVerdict({ svid, error }: Verdict): object {
  if (error !== undefined) return { code: error.code, message: error.message, hint: error.hint };
  const { spiffeId, leaf, anchor } = svid;
  return {
    spiffeId: spiffeId.toString(),
    serialNumber: leaf.serialNumber,
    issuerId: leaf.authorityKeyId,
    anchorId: anchor.subjectKeyId,
    notBeforeMs: leaf.notBeforeMs,
    notAfterMs: leaf.notAfterMs,
  };
}

function textVerdict({ svid, error }: Verdict, nowMs: number): string[] {
  if (error !== undefined) {
    return textFields([
      ['verdict', 'NOT VALID'],
      ['code', error.code],
      ['reason', error.message],
      ['rule', error.spec.means],
      ...(error.hint === undefined ? [] : [['hint', error.hint] as const]),
    ]);
  }
  const { spiffeId, leaf, anchor } = svid;
  return textFields([
    ['verdict', `valid at ${timeText(nowMs)}`],
    ['SPIFFE ID', spiffeId.toString()],
    ['serial', Buffer.from(leaf.serialNumber).toString('hex')],
    ['issuer', Buffer.from(leaf.authorityKeyId ?? []).toString('hex')],
    ['anchor', Buffer.from(anchor.subjectKeyId ?? []).toString('hex')],
    ['valid until', `${timeText(leaf.notAfterMs)} (${distanceText(leaf.notAfterMs, nowMs)})`],
  ]);
}
