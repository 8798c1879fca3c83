/** Every bound on untrusted input, in one place. Sizes are bytes unless the name says otherwise. */
export const LIMITS = {
  /** SPIFFE-ID section 2.3. */
  spiffeIdBytes: 2048,
  /** SPIFFE-ID section 2.3. */
  trustDomainBytes: 255,
  csrBytes: 16 * 1024,
  certificateBytes: 32 * 1024,
  /** Certificates in a chain, leaf included. */
  chainCertificates: 8,
  derDepth: 16,
  crlBytes: 4 * 1024 * 1024,
  bundleDocumentBytes: 1024 * 1024,
  bundleAuthorities: 64,
  /** A bearer token; Kubernetes' bound tokens are about 1 KiB. */
  tokenBytes: 8 * 1024,
  /** All gRPC metadata of one call. */
  metadataBytes: 16 * 1024,
  /** One gRPC message from an agent. */
  agentMessageBytes: 64 * 1024,
  /** One gRPC message from the CA: a bundle with CRLs fits. */
  caMessageBytes: 8 * 1024 * 1024,
  /** Feeds that one report of an agent may name. */
  reportFeeds: 16,
  /** Consumers of one feed that a report may name. */
  reportConsumers: 8,
  trustStateBytes: 900 * 1024,
  /** What one CA replica tells the others of its agents, compressed: it is a ConfigMap, which may have 1 MiB. */
  fleetReportBytes: 900 * 1024,
  /** The same uncompressed. */
  fleetReportJsonBytes: 16 * 1024 * 1024,
  fleetReportInstances: 100_000,
  /** Issuers in a trust state, retired ones included; a removed one leaves. */
  trustStateIssuers: 64,
  /** Rotations that the trust state remembers after their end. */
  pastRotations: 16,
  /** Trust anchors that the trust state remembers as turned away from. */
  declinedAnchors: 16,
  /** Instances that one rotation can be told not to wait for. */
  excusedInstances: 64,
  /** Instances that the end of a rotation names as cut off; the rest is counted. */
  cutOffInstances: 32,
  /** Characters of a text that an operator gives as a reason. */
  operatorTextChars: 200,
  configFileBytes: 1024 * 1024,
  policyRules: 10_000,
  /** DNS name templates of one policy rule: each is a SAN of the SVIDs that it grants. */
  policyDnsNames: 16,
  /** One line of the audit log, newline included. */
  auditLineBytes: 32 * 1024,
  /** One SDS request. Envoy's node lists every extension that is compiled in, some 60 KiB of it. */
  sdsRequestBytes: 256 * 1024,
  /** Resource names that one SDS stream may ask for; the known ones are one per trust domain and a few. */
  sdsResourceNames: 128,
  /** One SDS resource name, characters: a SPIFFE ID, and somewhat more for what others name. */
  sdsNameChars: 2048 + 256,
  /** All resource names that one SDS stream keeps, or one request has, characters. */
  sdsNamesChars: 32 * 1024,
  /** One AdmissionReview. etcd takes objects of up to 1.5 MiB, in a shorter form than JSON. */
  admissionReviewBytes: 3 * 1024 * 1024,
  /** Manifests that `kedge inject` reads, characters. */
  manifestChars: 16 * 1024 * 1024,
  /** Documents of one such stream. */
  manifestDocuments: 4_096,
  /** `aud` values of one token. */
  tokenAudiences: 32,
  /** One claim or header parameter that is a string, characters. */
  tokenStringChars: 1024,
  /** One object of the Kubernetes API, or one event of a watch: 1.5 MiB in etcd, up to six times that as escaped JSON. */
  kubernetesObjectBytes: 10 * 1024 * 1024,
  /** One page of a list of {@link LIMITS.kubernetesPageItems} objects. */
  kubernetesPageBytes: 16 * 1024 * 1024,
  kubernetesPageItems: 500,
  /** Objects in all pages of one list. */
  kubernetesListItems: 250_000,
  /** The JWKS of one token issuer, and the document that says where it is. */
  issuerKeysBytes: 256 * 1024,
  issuerKeys: 64,
  kubeconfigBytes: 1024 * 1024,
  /** What a credential plugin of a kubeconfig prints. */
  execCredentialBytes: 512 * 1024,
  /** One file of an upstream authority: certificates, or a private key. */
  upstreamFileBytes: 256 * 1024,
  passphraseFileBytes: 1024,
  /** Rounds of PBKDF2 that a passphrase is turned into a key by, or as much work of scrypt: seconds of CPU. */
  keyDerivationSteps: 10_000_000,
  /** One answer of Vault: a list of issuers with chains of RSA certificates. */
  vaultAnswerBytes: 512 * 1024,
  /** Certificates in one member of an answer of Vault. */
  vaultCertificates: 32,
  /** Issuers of one PKI mount that are looked at. */
  vaultIssuers: 64,
  /** A token, role id, secret id or JWT for Vault. */
  vaultCredentialBytes: 16 * 1024,
} as const;
