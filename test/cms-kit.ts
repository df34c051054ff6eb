import { spawnSync } from "node:child_process";
import { createHash, sign, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zip } from "./archive-kit.ts";

/*
 * Certificates and timestamps by openssl, and package signatures put together here, element by element, so that a case can change any.
 */

const scratch = mkdtempSync(join(tmpdir(), "aegis-cms-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

export function openssl(args: readonly string[], input?: Uint8Array): Buffer {
  const { status, stdout, stderr } = spawnSync("/usr/bin/openssl", args, { cwd: scratch, input });
  if (status !== 0) throw new Error(`openssl ${args.join(" ")}: ${stderr.toString()}`);
  return stdout;
}

export const place = (name: string) => join(scratch, name);

export interface Signer {
  name: string;
  certificate: X509Certificate;
  pem: string;
  key: string;
  fingerprint: string;
}

/** A certificate of its own, or by `issuer`. Dates as openssl takes them (YYYYMMDDHHMMSSZ). */
export function makeSigner(
  name: string,
  {
    purpose = "codeSigning",
    issuer,
    bits = 2048,
    ca = false,
    from = "20240101000000Z",
    to = "20340101000000Z",
  }: Partial<{
    purpose: string;
    issuer: Signer;
    bits: number;
    ca: boolean;
    from: string;
    to: string;
  }> = {},
): Signer {
  const file = (extension: string) => place(`${name}.${extension}`);
  writeFileSync(
    file("cnf"),
    [
      "[ca]\ndefault_ca=d\n[d]\ndatabase=./db\nnew_certs_dir=.\nserial=./serial\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied",
      "[req]\ndistinguished_name=n\n[n]\n",
      `[x]\nbasicConstraints=critical,CA:${ca}\n${purpose === "" ? "" : `extendedKeyUsage=critical,${purpose}\n`}`,
    ].join("\n"),
  );
  writeFileSync(place("db"), "");
  writeFileSync(
    place("serial"),
    `${createHash("sha256").update(`${name}${Math.random()}`).digest("hex").slice(0, 16)}\n`,
  );
  openssl([
    "req",
    "-new",
    "-newkey",
    `rsa:${bits}`,
    "-nodes",
    "-keyout",
    file("key"),
    "-out",
    file("csr"),
    "-subj",
    `/CN=${name}`,
    "-config",
    file("cnf"),
  ]);
  const by =
    issuer === undefined
      ? ["-selfsign", "-keyfile", file("key")]
      : ["-cert", place(`${issuer.name}.pem`), "-keyfile", place(`${issuer.name}.key`)];
  openssl([
    "ca",
    "-batch",
    "-config",
    file("cnf"),
    "-extensions",
    "x",
    "-notext",
    "-startdate",
    from,
    "-enddate",
    to,
    "-in",
    file("csr"),
    "-out",
    file("pem"),
    ...by,
  ]);
  const pem = readFileSync(file("pem"), "utf8");
  const certificate = new X509Certificate(pem);
  const fingerprint = createHash("sha256").update(certificate.raw).digest("hex");
  return { name, certificate, pem, key: readFileSync(file("key"), "utf8"), fingerprint };
}

/** A timestamp token over these bytes, by openssl; its time is now. */
export function timestamp(authority: Signer, issuer: Signer, bytes: Uint8Array): Buffer {
  writeFileSync(
    place("ts.cnf"),
    `[tsa]\ndefault_tsa=t\n[t]\nserial=${place("tsserial")}\ncrypto_device=builtin\nsigner_digest=sha256\ndefault_policy=1.2.3.4\ndigests=sha256\naccuracy=secs:1\ness_cert_id_chain=no\ness_cert_id_alg=sha256\n`,
  );
  writeFileSync(place("tsserial"), "01\n");
  writeFileSync(place("stamped"), bytes);
  openssl(["ts", "-query", "-data", place("stamped"), "-sha256", "-cert", "-out", place("tsq")]);
  const by = [
    "-signer",
    place(`${authority.name}.pem`),
    "-inkey",
    place(`${authority.name}.key`),
    "-chain",
    place(`${issuer.name}.pem`),
  ];
  openssl([
    "ts",
    "-reply",
    "-config",
    place("ts.cnf"),
    "-queryfile",
    place("tsq"),
    ...by,
    "-token_out",
    "-out",
    place("tst"),
  ]);
  return readFileSync(place("tst"));
}

export function der(tag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  if (content.length < 0x80) return Buffer.concat([Buffer.from([tag, content.length]), content]);
  const hex = content.length.toString(16);
  const size = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, "hex");
  return Buffer.concat([Buffer.from([tag, 0x80 | size.length]), size, content]);
}

export function oid(dotted: string): Buffer {
  const [a = 0, b = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [a * 40 + b, ...rest].flatMap((number) => {
    const groups = [number % 128];
    for (let left = Math.floor(number / 128); left > 0; left = Math.floor(left / 128))
      groups.unshift((left % 128) | 0x80);
    return groups;
  });
  return der(0x06, Buffer.from(bytes));
}

const SHA256 = der(0x30, oid("2.16.840.1.101.3.4.2.1"), der(0x05));
const attribute = (type: string, value: Uint8Array) => der(0x30, oid(type), der(0x31, value));
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();
export const AUTHOR = "1.2.840.113549.1.9.16.6.1";
export const REPOSITORY = "1.2.840.113549.1.9.16.6.2";

export interface SignatureCase {
  by: Signer;
  /** Commitments. */
  kinds?: string[];
  /** The certificate that the signed attributes name, where it isn't the signer's. */
  names?: Signer;
  serviceIndex?: string | null;
  /** Unsigned attributes, made from the signature's value. */
  unsigned?: (signature: Buffer) => Buffer[];
  /** More signed attributes. */
  more?: Buffer[];
  digest?: Buffer;
}

/** A SignerInfo over `content`; a countersignature where `isCounter`. */
export function signerInfo(
  content: Uint8Array,
  { by, kinds = [AUTHOR], names = by, serviceIndex, unsigned, more = [], digest }: SignatureCase,
  isCounter = false,
): Buffer {
  const [issuer, serial] = issuerAndSerial(by.certificate.raw);
  const isRepository = kinds.includes(REPOSITORY);
  const index =
    serviceIndex === undefined ? (isRepository ? "https://nuget.example/v3/index.json" : null) : serviceIndex;
  const attributes = [
    ...(isCounter ? [] : [attribute("1.2.840.113549.1.9.3", oid("1.2.840.113549.1.7.1"))]),
    attribute("1.2.840.113549.1.9.5", der(0x17, Buffer.from("260101000000Z"))),
    attribute("1.2.840.113549.1.9.4", der(0x04, digest ?? sha256(content))),
    der(0x30, oid("1.2.840.113549.1.9.16.2.16"), der(0x31, ...kinds.map((kind) => der(0x30, oid(kind))))),
    attribute(
      "1.2.840.113549.1.9.16.2.47",
      der(0x30, der(0x30, der(0x30, der(0x04, sha256(names.certificate.raw))))),
    ),
    ...(index === null ? [] : [attribute("1.3.6.1.4.1.311.84.2.1.1.1", der(0x16, Buffer.from(index)))]),
    ...more,
  ].sort(Buffer.compare);
  const signature = sign("sha256", der(0x31, ...attributes), by.key);
  const rest = unsigned?.(signature) ?? [];
  return der(
    0x30,
    der(0x02, Buffer.from([1])),
    der(0x30, issuer, serial),
    SHA256,
    der(0xa0, ...attributes),
    der(0x30, oid("1.2.840.113549.1.1.1"), der(0x05)),
    der(0x04, signature),
    ...(rest.length === 0 ? [] : [der(0xa1, ...rest)]),
  );
}

export const countersignature = (one: SignatureCase) => (signature: Buffer) =>
  attribute("1.2.840.113549.1.9.6", signerInfo(signature, one, true));
export const timestamped =
  (authority: Signer, issuer: Signer, change: (token: Buffer) => Buffer = (token) => token) =>
  (signature: Buffer) =>
    attribute("1.2.840.113549.1.9.16.2.14", change(timestamp(authority, issuer, signature)));

/** The whole signature: signed data with the certificates of `carried`, and with what is signed unless that is `detached`. */
export function signedData(
  content: Uint8Array,
  signers: Buffer[],
  carried: readonly Signer[],
  detached = false,
): Buffer {
  const inner = der(
    0x30,
    der(0x02, Buffer.from([1])),
    der(0x31, SHA256),
    der(0x30, oid("1.2.840.113549.1.7.1"), ...(detached ? [] : [der(0xa0, der(0x04, content))])),
    der(0xa0, ...carried.map(({ certificate }) => Buffer.from(certificate.raw))),
    der(0x31, ...signers),
  );
  return der(0x30, oid("1.2.840.113549.1.7.2"), der(0xa0, inner));
}

/** What NuGet signs: the hash of the file without its signature. */
export const contentOf = (unsigned: Uint8Array) =>
  Buffer.from(`Version:1\n\n2.16.840.1.101.3.4.2.1-Hash:${sha256(unsigned).toString("base64")}\n\n`);

/** A package of these entries with the signature that `make` gives for its content; `at` is the signature's place among them. */
export function signedPackage(
  entries: { name: string; body?: string | Uint8Array }[],
  make: (content: Buffer) => Buffer,
  at = entries.length,
): { file: Buffer; signature: Buffer } {
  const signature = make(contentOf(zip(entries)));
  const all = entries.toSpliced(at, 0, { name: ".signature.p7s", body: signature });
  return {
    file: zip(all.map((one) => (one.name === ".signature.p7s" ? { ...one, method: 0 } : one))),
    signature,
  };
}

function issuerAndSerial(certificate: Uint8Array): [Buffer, Buffer] {
  const list = (bytes: Buffer): Buffer[] => {
    const found: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const first = bytes[at + 1] ?? 0;
      const size = first < 0x80 ? 0 : first & 0x7f;
      const length = size === 0 ? first : bytes.readUIntBE(at + 2, size);
      found.push(bytes.subarray(at, at + 2 + size + length));
      at += 2 + size + length;
    }
    return found;
  };
  const inside = (bytes: Buffer) => bytes.subarray(2 + ((bytes[1] ?? 0) < 0x80 ? 0 : (bytes[1] ?? 0) & 0x7f));
  const [body = Buffer.alloc(0)] = list(inside(Buffer.from(certificate)));
  const [, serial = Buffer.alloc(0), , issuer = Buffer.alloc(0)] = list(inside(body));
  return [issuer, serial];
}
