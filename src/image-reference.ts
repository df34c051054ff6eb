import { AegisError } from "./errors.ts";

/*
 * Names of images, by the grammar of https://github.com/distribution/reference, which Docker and Podman share. Pure: policy judges
 * with it.
 */

/** The parts of a reference as they are written. */
interface ReferenceParts {
  /** `host` or `host:port`; "" where there is none. */
  domain: string;
  /** The repository within its registry. */
  path: string;
  tag: string | null;
  /** `<algorithm>:<hex>` */
  digest: string | null;
}

/** A reference to one repository of one registry. */
export interface ImageReference extends ReferenceParts {
  /** Whether the text named the registry. Docker Hub stands in otherwise. */
  isQualified: boolean;
}

/** Docker Hub in references; its API has another address. */
export const DOCKER_HUB = "docker.io";
const DOCKER_INDEX = "index.docker.io";
const OFFICIAL = "library/";
const MAX_PATH = 255;

const COMPONENT = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const PATH = `${COMPONENT}(?:/${COMPONENT})*`;
const LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
const DOMAIN = String.raw`(?:${LABEL}(?:\.${LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?`;
const TAG = String.raw`\w[\w.-]{0,127}`;
const DIGEST = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
const REFERENCE = new RegExp(`^((?:${DOMAIN}/)?${PATH})(?::(${TAG}))?(?:@(${DIGEST}))?$`);
const NAME = new RegExp(`^(?:(${DOMAIN})/)?(${PATH})$`);
/** Lengths in hex digits. https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#registered-algorithms */
const DIGESTS: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 };

/**
 * The parts of a reference, nothing added.
 * @throws AegisError `invalid_target`
 */
export function parseReference(text: string): ReferenceParts {
  if (text === "") throw invalid(text, "it is empty");
  const [, name = "", tag = null, digest = null] = REFERENCE.exec(text) ?? [];
  if (name === "") {
    const isUpperCase = REFERENCE.test(text.toLowerCase());
    throw invalid(
      text,
      isUpperCase ? "the name must be lower-case" : "it isn't [registry/]name[:tag][@digest]",
    );
  }
  const [, domain = "", path = ""] = NAME.exec(name) ?? [];
  if (path.length > MAX_PATH) throw invalid(text, `the name is longer than ${MAX_PATH} characters`);
  if (digest !== null) assertDigest(text, digest);
  return { domain, path, tag, digest };
}

/**
 * A reference as Docker and Podman complete it: a name without a registry is Docker Hub's, and there one without a namespace is
 * `library/…`. No tag is added.
 * @throws AegisError `invalid_target`
 */
export function normalizeReference(text: string): ImageReference {
  if (/^(?:sha256:)?[a-f0-9]{64}$/.test(text)) throw invalid(text, "it is an image's id");
  const slash = text.indexOf("/");
  const first = slash < 0 ? "" : text.slice(0, slash);
  // `localhost`, anything with a dot or a port, and upper case can't be a namespace.
  const isQualified =
    slash >= 0 && (first === "localhost" || /[.:]/.test(first) || first !== first.toLowerCase());
  const domain = !isQualified || first === DOCKER_INDEX ? DOCKER_HUB : first;
  const rest = isQualified ? text.slice(slash + 1) : text;
  const path = domain === DOCKER_HUB && !rest.includes("/") ? `${OFFICIAL}${rest}` : rest;
  if (/^[^:@]*[A-Z]/.test(path)) throw invalid(text, "the name must be lower-case");
  return { ...parseReference(`${domain}/${path}`), isQualified };
}

/** What a pull of the reference asks for: the digest where there is one, or else the tag, `latest` by default. */
export function pulledReference(reference: ReferenceParts): string {
  const { tag, digest } = reference;
  return `${repositoryOf(reference)}${digest === null ? `:${tag ?? "latest"}` : `@${digest}`}`;
}

/** `docker.io/library/debian` */
export function repositoryOf({ domain, path }: Pick<ReferenceParts, "domain" | "path">): string {
  return `${domain}/${path}`;
}

function assertDigest(text: string, digest: string): void {
  const [algorithm = "", hex = ""] = digest.split(":");
  const length = Object.hasOwn(DIGESTS, algorithm) ? DIGESTS[algorithm] : undefined;
  if (length === undefined) throw invalid(text, `${algorithm} is not a known digest algorithm`);
  if (hex.length !== length || !/^[0-9a-f]+$/.test(hex))
    throw invalid(text, `a ${algorithm} digest has ${length} lower-case hex digits`);
}

function invalid(text: string, reason: string): AegisError {
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(text)} can't be an image: ${reason}`,
    "Name it as its registry does: docker.io/library/debian@sha256:<digest>, or debian:12 to find the digest.",
  );
}
