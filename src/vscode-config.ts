import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";

/*
 * Which gallery extensions come from, by the settings of whoever plans.
 */

const OPEN_VSX = "https://open-vsx.org/vscode/gallery";
/** Where Microsoft's package has its product's settings. */
const PRODUCT = "/usr/share/code/resources/app/product.json";
/** The end of the address by which editors reach Open VSX's software; its own interface has another. */
const OPEN_VSX_PATH = "/vscode/gallery";

const Gallery = v.looseObject({ serviceUrl: v.string() });
const Product = v.looseObject({ extensionsGallery: v.optional(Gallery) });

export interface VscodeGallery {
  /** As editors have it, without a last slash. */
  service: URL;
  /** Where Open VSX's interface begins, with a last slash; null for a gallery that only speaks Microsoft's. */
  openVsx: URL | null;
}

/**
 * The gallery: AEGIS_VSCODE_GALLERY, then EXTENSIONS_GALLERY as code-server has it, then what the editor itself would ask: Open VSX
 * for code-server, and for `code` what its product.json says.
 * @throws AegisError `invalid_config` naming what can't be used
 */
export function vscodeGallery(
  env: Env,
  readText: (path: string) => string | null,
  program: "code" | "code-server",
): VscodeGallery {
  const own = env.AEGIS_VSCODE_GALLERY ?? "";
  if (own !== "") return galleryAt(own, "AEGIS_VSCODE_GALLERY");
  const variable = env.EXTENSIONS_GALLERY ?? "";
  if (variable !== "")
    return galleryAt(read(Gallery, variable, "EXTENSIONS_GALLERY").serviceUrl, "EXTENSIONS_GALLERY");
  const product = program === "code" ? readText(PRODUCT) : null;
  const named = product === null ? undefined : read(Product, product, PRODUCT).extensionsGallery;
  return galleryAt(named?.serviceUrl ?? OPEN_VSX, PRODUCT);
}

function galleryAt(address: string, where: string): VscodeGallery {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw invalid(where, "its serviceUrl is no http or https address");
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw invalid(where, "give the address alone, without a password or a query");
  url.pathname = url.pathname.replace(/\/+$/, "");
  const isOpenVsx = url.pathname.endsWith(OPEN_VSX_PATH);
  const base = url.pathname.slice(0, -OPEN_VSX_PATH.length);
  return { service: url, openVsx: isOpenVsx ? new URL(`${base}/api/`, url) : null };
}

function read<S extends v.GenericSchema>(schema: S, text: string, where: string): v.InferOutput<S> {
  try {
    return v.parse(schema, parseJson(text));
  } catch {
    throw invalid(where, "it is no JSON with a serviceUrl");
  }
}

function invalid(where: string, problem: string): AegisError {
  return new AegisError(
    "invalid_config",
    `the extension gallery of ${where} can't be used: ${problem}`,
    `Correct it: ${OPEN_VSX}, for example.`,
  );
}
