import { type Json, parseJson } from "./canonical.ts";
import { AegisError } from "./errors.ts";

/*
 * JSON that a container engine reads too. The engines are written in Go, whose reader takes `Layers` for `layers`, and of a name that
 * comes twice a mixture of both: what such a document means here would not be what it means there.
 * https://pkg.go.dev/encoding/json#Unmarshal
 */

/** Objects whose names are data: two that differ in case are two. */
const MAPS = new Set(["annotations", "Labels", "ExposedPorts", "Volumes"]);
/** Every name that image-manifest.ts reads. */
const KNOWN: ReadonlyMap<string, string> = new Map(
  [
    ...[
      "schemaVersion",
      "mediaType",
      "manifests",
      "config",
      "layers",
      "annotations",
      "artifactType",
      "subject",
    ],
    ...[
      "digest",
      "size",
      "platform",
      "architecture",
      "os",
      "variant",
      "created",
      "rootfs",
      "type",
      "diff_ids",
    ],
    ...["User", "Entrypoint", "Cmd", "ExposedPorts", "Volumes", "Labels", "data", "urls"],
  ].map((name) => [folded(name), name]),
);

/** As Go compares names. NFKC takes the two letters that only Unicode folds, the Kelvin sign and the long s. */
function folded(name: string): string {
  return name.normalize("NFKC").toLowerCase();
}

/**
 * Parses JSON in which every name means the same to everybody.
 * @throws AegisError `invalid_document`
 */
export function parseUnambiguous(bytes: Uint8Array): Json {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw ambiguous("it is not UTF-8");
  }
  const tree = parseJson(text);
  const open: { names: Set<string>; isMap: boolean }[] = [];
  let key = "";
  // The text has been parsed, so its strings and brackets are where they may be.
  for (const [token, colon] of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[{}]/gs)) {
    if (token === "{") open.push({ names: new Set(), isMap: MAPS.has(key) });
    else if (token === "}") open.pop();
    else if (colon !== undefined) {
      key = String(JSON.parse(token.slice(0, -colon.length)));
      const object = open.at(-1);
      if (object !== undefined) take(key, object);
    }
  }
  return tree;
}

function take(key: string, { names, isMap }: { names: Set<string>; isMap: boolean }): void {
  const name = isMap ? key : folded(key);
  if (names.has(name)) throw ambiguous(`${JSON.stringify(key.slice(0, 100))} is there twice`);
  names.add(name);
  const known = isMap ? undefined : KNOWN.get(name);
  if (known !== undefined && known !== key) throw ambiguous(`${JSON.stringify(key)} stands for ${known}`);
}

function ambiguous(why: string): AegisError {
  return new AegisError("invalid_document", why);
}
