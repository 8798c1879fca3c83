import { attempt } from '../../../pki/attempt.ts';
import { equalBytes } from '../../../pki/bytes.ts';
import type { Certificate } from '../../../pki/certificate.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { verifySignature } from '../../../pki/public-key.ts';
import { isSelfIssued } from '../../../pki/verify-issuer.ts';

/** From a CA certificate up to a root that signed itself, both included; a root alone is a path of one. */
export type CaPath = readonly [Certificate, ...Certificate[]];

/** Ways up to the roots that are looked at; cross-signed CAs have a few. */
const MAX_PATHS = 16;
/** What may stand above an SVID and the issuer that Kedge mints. */
const MAX_CERTIFICATES = LIMITS.chainCertificates - 1;
/** Signatures that are verified for one set of files. */
const MAX_SIGNATURES = 1_000;

/**
 * Every way from `start` up to a root, by names and signatures, through certificates in any order. The order of the
 * answer is that of `certificates`. Empty where no way leads to a root.
 */
export function pathsToRoots(start: Certificate, certificates: readonly Certificate[]): readonly CaPath[] {
  const paths: CaPath[] = [];
  let signatures = 0;
  const isSignedBy = (below: Certificate, above: Certificate): boolean => {
    if (!equalBytes(below.issuer, above.subject) || signatures >= MAX_SIGNATURES) return false;
    signatures += 1;
    const { signatureAlgorithm, tbs, signature } = below;
    // A key that cannot be read has signed nothing.
    const verified = attempt(() =>
      verifySignature(signatureAlgorithm, above.spki, tbs, signature, 'authority_unusable'),
    );
    return verified.ok && verified.value;
  };
  const climb = (path: CaPath): void => {
    const top = path.at(-1) ?? path[0];
    if (paths.length >= MAX_PATHS) return;
    if (isSelfIssued(top) && isSignedBy(top, top)) {
      paths.push(path);
      return;
    }
    if (path.length >= MAX_CERTIFICATES) return;
    for (const above of certificates) {
      const isNew = path.every(({ spki }) => !equalBytes(spki, above.spki));
      if (isNew && isSignedBy(top, above)) climb([...path, above]);
    }
  };
  climb([start]);
  return paths;
}

/** The root of a path. */
export function rootOf(path: CaPath): Certificate {
  return path.at(-1) ?? path[0];
}

/** What stands below the root, as it travels with SVIDs: DER, the lowest first. Empty where the root itself signs. */
export function chainOf(path: CaPath): readonly Uint8Array[] {
  return path.slice(0, -1).map(({ der }) => der);
}
