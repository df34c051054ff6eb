/*
 * Records what real cosigns write into a registry, as fixtures for image-cosign.test.ts: signatures and attestations by keys, and by
 * identities of a Sigstore of our own (Fulcio, a certificate log, Rekor 2 and a time stamp authority, all real programs on loopback).
 *
 *   bun scripts/record-cosign.ts <directory of programs> <output.json>
 *
 * The programs come from the Go module proxy: see test/fixtures/image/README.md. Needs openssl and the ports 5055 to 5060.
 */
import { createHash, createSign, generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const [bin = "", output = ""] = process.argv.slice(2).map((path) => resolve(path));
const work = mkdtempSync(join(tmpdir(), "record-cosign-"));
const at = (name: string) => join(work, name);
const digestOf = (bytes: Uint8Array | string) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

/* A registry that takes what is pushed, and lists referrers. */

const REGISTRY = "127.0.0.1:5055";
interface Repository {
  manifests: Map<string, { bytes: Buffer; type: string }>;
  blobs: Map<string, Buffer>;
}
const repositories = new Map<string, Repository>();
const uploads = new Map<string, Buffer[]>();
const repositoryOf = (name: string): Repository => {
  const found = repositories.get(name) ?? { manifests: new Map(), blobs: new Map() };
  repositories.set(name, found);
  return found;
};

async function answer(request: Request): Promise<Response> {
  const url = new URL(request.url);
  if (url.pathname === "/v2/") return new Response("{}");
  const [, name = "", kind = "", which = ""] =
    /^\/v2\/(.+)\/(manifests|blobs|referrers|uploads)\/(.*)$/.exec(
      url.pathname.replace("/blobs/uploads/", "/uploads/"),
    ) ?? [];
  const { manifests, blobs } = repositoryOf(name);
  const { method } = request;
  const body = ["PUT", "PATCH", "POST"].includes(method)
    ? Buffer.from(await request.arrayBuffer())
    : Buffer.alloc(0);
  if (kind === "uploads") {
    const id = method === "POST" ? crypto.randomUUID() : which;
    const parts = uploads.get(id) ?? [];
    uploads.set(id, parts);
    if (body.length > 0) parts.push(body);
    const digest = url.searchParams.get("digest");
    const location = `/v2/${name}/blobs/uploads/${id}`;
    if (digest === null) return new Response("", { status: 202, headers: { location, range: "0-0" } });
    blobs.set(digest, Buffer.concat(parts));
    return new Response("", { status: 201, headers: { location: `/v2/${name}/blobs/${digest}` } });
  }
  if (kind === "manifests" && method === "PUT") {
    const document = { bytes: body, type: request.headers.get("content-type") ?? "" };
    const digest = digestOf(body);
    manifests.set(digest, document);
    manifests.set(which, document);
    const { subject } = JSON.parse(body.toString());
    return new Response("", {
      ...{ status: 201 },
      headers: {
        "docker-content-digest": digest,
        ...(subject === undefined ? {} : { "oci-subject": subject.digest }),
      },
    });
  }
  if (kind === "referrers")
    return Response.json(referrersOf(name, which), {
      headers: { "content-type": "application/vnd.oci.image.index.v1+json" },
    });
  const found =
    kind === "manifests"
      ? manifests.get(which)
      : blobs.has(which)
        ? { bytes: blobs.get(which), type: "application/octet-stream" }
        : undefined;
  if (found?.bytes === undefined)
    return Response.json(
      { errors: [{ code: kind === "blobs" ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN" }] },
      { status: 404 },
    );
  const headers = {
    "content-type": found.type,
    "docker-content-digest": digestOf(found.bytes),
    "content-length": String(found.bytes.length),
  };
  return new Response(method === "HEAD" ? null : new Uint8Array(found.bytes), { headers });
}

function referrersOf(name: string, digest: string) {
  const manifests = [...repositoryOf(name).manifests]
    .filter(([key]) => key.startsWith("sha256:"))
    .flatMap(([key, { bytes, type }]) => {
      const { subject, artifactType, config, annotations } = JSON.parse(bytes.toString());
      if (subject?.digest !== digest) return [];
      return [
        {
          mediaType: type,
          digest: key,
          size: bytes.length,
          artifactType: artifactType ?? config?.mediaType,
          annotations,
        },
      ];
    });
  return { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests };
}

Bun.serve({ hostname: "127.0.0.1", port: 5055, fetch: answer });

/* Who says who somebody is. */

const ISSUER = "https://127.0.0.1:5056";
const oidc = generateKeyPairSync("rsa", { modulusLength: 2048 });
function tokenOf(claims: object): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (tree: object) => Buffer.from(JSON.stringify(tree)).toString("base64url");
  const head = part({ alg: "RS256", kid: "1", typ: "JWT" });
  const text = `${head}.${part({ iss: ISSUER, aud: "sigstore", iat: now, nbf: now, exp: now + 600, ...claims })}`;
  return `${text}.${createSign("sha256").update(text).sign(oidc.privateKey).toString("base64url")}`;
}

/* Programs. */

const children: Bun.Subprocess[] = [];
/** The issuer's certificate is the only one that anybody asks for. */
const ENV = { SSL_CERT_FILE: at("issuer.pem"), PATH: "/usr/bin:/bin", HOME: work, COSIGN_PASSWORD: "" };
const commands: string[] = [];
async function must(
  program: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<void> {
  const child = Bun.spawn([program, ...args], { cwd: work, env: { ...ENV, ...env }, stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const shown = [program.replace(`${bin}/`, ""), ...args]
    .join(" ")
    .replaceAll(work, "")
    .replace(/(?<=--identity-token )\S+/, "…");
  if ((await child.exited) !== 0) throw new Error(`${shown}\n${stdout}${stderr}`);
  if (program.startsWith(bin)) commands.push(shown);
}
function start(name: string, args: readonly string[]): void {
  children.push(
    Bun.spawn([join(bin, name), ...args], {
      cwd: work,
      env: ENV,
      stdout: Bun.file(at(`${name}.log`)),
      stderr: Bun.file(at(`${name}.err`)),
    }),
  );
}
async function get(url: string): Promise<string> {
  for (let n = 0; ; n++) {
    try {
      const response = await fetch(url);
      if (response.ok) return await response.text();
    } catch (error) {
      if (n > 100) throw error;
    }
    if (n > 100) throw new Error(`${url} doesn't answer`);
    await Bun.sleep(100);
  }
}
const openssl = (...args: string[]) => must("/usr/bin/openssl", args);

/** A key and its public half. */
async function keyPair(name: string): Promise<void> {
  await openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", at(`${name}.key`));
  await openssl("ec", "-in", at(`${name}.key`), "-pubout", "-out", at(`${name}.pub`));
}

async function startIssuer(): Promise<void> {
  await keyPair("issuer");
  await openssl(
    "req",
    "-x509",
    "-new",
    "-key",
    at("issuer.key"),
    "-days",
    "3650",
    "-subj",
    "/CN=127.0.0.1",
    "-addext",
    "subjectAltName=IP:127.0.0.1",
    "-out",
    at("issuer.pem"),
  );
  Bun.serve({
    hostname: "127.0.0.1",
    port: 5056,
    tls: { key: readFileSync(at("issuer.key")), cert: readFileSync(at("issuer.pem")) },
    fetch: (request) =>
      Response.json(
        new URL(request.url).pathname === "/keys"
          ? { keys: [{ ...oidc.publicKey.export({ format: "jwk" }), kid: "1", use: "sig", alg: "RS256" }] }
          : {
              issuer: ISSUER,
              jwks_uri: `${ISSUER}/keys`,
              response_types_supported: ["id_token"],
              subject_types_supported: ["public"],
              id_token_signing_alg_values_supported: ["RS256"],
            },
      ),
  });
}

async function sigstore(): Promise<void> {
  for (const name of ["ca", "ct", "rekor"]) await keyPair(name);
  await openssl(
    "req",
    "-x509",
    "-new",
    "-key",
    at("ca.key"),
    "-sha256",
    "-days",
    "3650",
    "-subj",
    "/O=aegis tests/CN=fulcio",
    "-addext",
    "keyUsage=critical,keyCertSign,cRLSign",
    "-addext",
    "basicConstraints=critical,CA:TRUE,pathlen:1",
    "-out",
    at("ca.pem"),
  );
  await openssl("ec", "-in", at("ca.key"), "-aes256", "-passout", "pass:pass", "-out", at("ca.enc"));
  for (const name of ["ct-log", "rekor-log"]) mkdirSync(at(name));
  start("tesseract", [
    "-private_key",
    at("ct.key"),
    "-origin",
    "ct.test",
    "-path_prefix",
    "ct.test",
    "-storage_dir",
    at("ct-log"),
    "-roots_pem_file",
    at("ca.pem"),
    "-http_endpoint",
    "127.0.0.1:5057",
  ]);
  const identity = { IssuerURL: ISSUER, ClientID: "sigstore", Type: "email" };
  writeFileSync(at("fulcio.json"), JSON.stringify({ OIDCIssuers: { [ISSUER]: identity } }));
  start("fulcio", [
    "serve",
    "--ca",
    "fileca",
    "--fileca-cert",
    at("ca.pem"),
    "--fileca-key",
    at("ca.enc"),
    "--fileca-key-passwd",
    "pass",
    "--ct-log-url",
    "http://127.0.0.1:5057/ct.test",
    "--ct-log-public-key-path",
    at("ct.pub"),
    "--config-path",
    at("fulcio.json"),
    "--host",
    "127.0.0.1",
    "--port",
    "5058",
    "--grpc-host",
    "127.0.0.1",
    "--grpc-port",
    "5061",
    "--metrics-port",
    "5062",
  ]);
  start("rekor-tiles", [
    "serve",
    "--storage-dir",
    at("rekor-log"),
    "--hostname",
    "127.0.0.1",
    "--http-port",
    "5059",
    "--grpc-port",
    "5063",
    "--http-metrics-port",
    "5064",
    "--signer-filepath",
    at("rekor.key"),
    "--checkpoint-interval",
    "1s",
  ]);
  start("timestamp-server", ["serve", "--host", "127.0.0.1", "--port", "5060", "--disable-ntp-monitoring"]);
  writeFileSync(at("tsa.pem"), await get("http://127.0.0.1:5060/api/v1/timestamp/certchain"));
  await get("http://127.0.0.1:5058/api/v2/trustBundle");
  const since = "start-time=2026-01-01T00:00:00Z";
  await must(join(bin, "cosign-v3.1.3"), [
    "trusted-root",
    "create",
    "--fulcio",
    `url=http://127.0.0.1:5058,certificate-chain=${at("ca.pem")},${since}`,
    "--ctfe",
    `url=http://127.0.0.1:5057/ct.test,public-key=${at("ct.pub")},${since}`,
    "--rekor",
    `url=http://127.0.0.1:5059,public-key=${at("rekor.pub")},${since},origin=127.0.0.1`,
    "--tsa",
    `url=http://127.0.0.1:5060/api/v1/timestamp,certificate-chain=${at("tsa.pem")},${since}`,
    "--out",
    at("trusted-root.json"),
  ]);
  const service = (url: string, version: number) =>
    `url=${url},api-version=${version},${since},operator=aegis.test`;
  await must(join(bin, "cosign-v3.1.3"), [
    "signing-config",
    "create",
    "--fulcio",
    service("http://127.0.0.1:5058", 1),
    "--rekor",
    service("http://127.0.0.1:5059", 2),
    "--rekor-config",
    "ANY",
    "--tsa",
    service("http://127.0.0.1:5060/api/v1/timestamp", 1),
    "--tsa-config",
    "ANY",
    "--oidc-provider",
    service(ISSUER, 1),
    "--out",
    at("signing-config.json"),
  ]);
  // For bare keys: neither a log nor time stamps.
  await must(join(bin, "cosign-v3.1.3"), ["signing-config", "create", "--out", at("signing-none.json")]);
}

/* An image in a repository of its own. */

const LAYER = Buffer.from(Bun.gzipSync(new Uint8Array(1024)));
function image(name: string): string {
  const config = Buffer.from(
    JSON.stringify({
      architecture: "amd64",
      os: "linux",
      config: { User: "1000" },
      rootfs: { type: "layers", diff_ids: [digestOf(Bun.gunzipSync(LAYER))] },
    }),
  );
  const { blobs, manifests } = repositoryOf(name);
  for (const bytes of [config, LAYER]) blobs.set(digestOf(bytes), bytes);
  const type = "application/vnd.oci.image.manifest.v1+json";
  const descriptor = (mediaType: string, bytes: Buffer) => ({
    mediaType,
    digest: digestOf(bytes),
    size: bytes.length,
  });
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: type,
      config: descriptor("application/vnd.oci.image.config.v1+json", config),
      layers: [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", LAYER)],
    }),
  );
  manifests.set(digestOf(bytes), { bytes, type });
  return `${REGISTRY}/${name}@${digestOf(bytes)}`;
}

const [V2, V3] = [join(bin, "cosign-v2.6.5"), join(bin, "cosign-v3.1.3")];
const TSA = ["--timestamp-server-url", "http://127.0.0.1:5060/api/v1/timestamp"];
const PREDICATE = {
  buildDefinition: { buildType: "https://aegis.test/build", externalParameters: {} },
  runDetails: { builder: { id: "https://aegis.test/builder" } },
};
const recorded: Record<
  string,
  {
    commands: string[];
    manifests: Record<string, string>;
    blobs: Record<string, string>;
    referrers: Record<string, unknown>;
  }
> = {};

async function record(name: string, make: (image: string) => Promise<void>): Promise<void> {
  const reference = image(name);
  commands.length = 0;
  await make(reference);
  const { manifests, blobs } = repositoryOf(name);
  const [, digest = ""] = reference.split("@");
  recorded[name] = {
    commands: [...commands],
    manifests: Object.fromEntries([...manifests].map(([key, { bytes }]) => [key, bytes.toString()])),
    blobs: Object.fromEntries(
      [...blobs].filter(([key]) => key !== digestOf(LAYER)).map(([key, bytes]) => [key, bytes.toString()]),
    ),
    referrers: { [digest]: referrersOf(name, digest) },
  };
}

try {
  writeFileSync(at("predicate.json"), JSON.stringify(PREDICATE));
  await must(V2, ["generate-key-pair"]);
  await startIssuer();
  await sigstore();
  const key = ["--key", "cosign.key", "--yes"];
  const offline = [...key, "--tlog-upload=false"];
  const none = [...key, "--signing-config", at("signing-none.json")];
  await record("v2-key-sig", (it) => must(V2, ["sign", ...offline, it]));
  await record("v2-key-sig-timestamp", (it) => must(V2, ["sign", ...offline, ...TSA, it]));
  await record("v2-key-bundle", (it) => must(V2, ["sign", ...offline, "--new-bundle-format", it]));
  await record("v2-key-att", (it) =>
    must(V2, ["attest", ...offline, "--type", "slsaprovenance1", "--predicate", "predicate.json", it]),
  );
  await record("v3-key-bundle", (it) => must(V3, ["sign", ...none, it]));
  await record("v3-key-attestation", (it) =>
    must(V3, ["attest", ...none, "--type", "slsaprovenance1", "--predicate", "predicate.json", it]),
  );
  const blobBundle = async (it: string, args: readonly string[]) => {
    const [name = "", digest = ""] = it.replace(`${REGISTRY}/`, "").split("@");
    const { manifests, blobs } = repositoryOf(name);
    writeFileSync(at("manifest.json"), manifests.get(digest)?.bytes ?? "");
    await must(V3, ["sign-blob", ...args, "--bundle", "bundle.json", "manifest.json"]);
    const bundle = readFileSync(at("bundle.json"));
    const type = "application/vnd.oci.image.manifest.v1+json";
    const mediaType = "application/vnd.dev.sigstore.bundle.v0.3+json";
    blobs.set(digestOf(bundle), bundle).set(digestOf("{}"), Buffer.from("{}"));
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: type,
        artifactType: mediaType,
        config: { mediaType: "application/vnd.oci.empty.v1+json", digest: digestOf("{}"), size: 2 },
        layers: [{ mediaType, digest: digestOf(bundle), size: bundle.length }],
        subject: { mediaType: type, digest, size: manifests.get(digest)?.bytes.length },
      }),
    );
    manifests.set(digestOf(bytes), { bytes, type });
  };
  await record("v3-key-message", (it) => blobBundle(it, none));

  const identity = () => [
    "--identity-token",
    tokenOf({ sub: "1", email: "dev@aegis.test", email_verified: true }),
    "--yes",
  ];
  const online = () => [...identity(), "--signing-config", at("signing-config.json")];
  await record("v3-identity-bundle", (it) =>
    must(V3, ["sign", ...online(), "--trusted-root", at("trusted-root.json"), it]),
  );
  await record("v3-identity-attestation", (it) =>
    must(V3, [
      "attest",
      ...online(),
      "--type",
      "slsaprovenance1",
      "--predicate",
      "predicate.json",
      "--trusted-root",
      at("trusted-root.json"),
      it,
    ]),
  );
  await record("v3-identity-message", (it) => blobBundle(it, online()));
  await record("v2-identity-sig-timestamp", (it) =>
    must(
      V2,
      ["sign", ...identity(), "--fulcio-url", "http://127.0.0.1:5058", "--tlog-upload=false", ...TSA, it],
      {
        SIGSTORE_ROOT_FILE: at("ca.pem"),
        SIGSTORE_CT_LOG_PUBLIC_KEY_FILE: at("ct.pub"),
      },
    ),
  );
  const text = (name: string) => readFileSync(at(name), "utf8");
  writeFileSync(
    output,
    `${JSON.stringify({ key: text("cosign.pub"), root: JSON.parse(text("trusted-root.json")), repositories: recorded }, null, 1)}\n`,
  );
} finally {
  for (const child of children) child.kill();
  if (process.env["KEEP"] === undefined) rmSync(work, { recursive: true });
  else process.stderr.write(`kept ${work}\n`);
}
process.exit(0);
