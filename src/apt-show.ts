import { parseStanzas, type Stanza } from "./deb822.ts";

/** What a Packages index says of one version of one package (deb-control(5)). */
export interface ShownPackage {
  name: string;
  architecture: string;
  version: string;
  /** Source package; the binary's own name where the field is left out. */
  source: string;
  essential: boolean;
  sha256: string | null;
  /** Bytes of the .deb. */
  size: number | null;
  maintainer: string | null;
  /** Names of the virtual packages it provides. */
  provides: string[];
}

/** Parses `apt-cache show`. Stanzas without a name, version or architecture are passed over. Never throws. */
export function parseShow(text: string): ShownPackage[] {
  return parseStanzas(text).flatMap((stanza) => {
    const [name, version] = [stanza.get("package"), stanza.get("version")];
    const architecture = stanza.get("architecture");
    if (name === undefined || version === undefined || architecture === undefined) return [];
    return [{ name, architecture, version, ...details(name, stanza) }];
  });
}

function details(name: string, stanza: Stanza) {
  const sha256 = stanza.get("sha256") ?? "";
  const size = stanza.get("size") ?? "";
  return {
    // `Source: bash (5.2.15-2)`: the version stands there only where it differs.
    source: stanza.get("source")?.split(/[\s(]/)[0] || name,
    essential: stanza.get("essential") === "yes",
    sha256: /^[0-9a-f]{64}$/.test(sha256) ? sha256 : null,
    size: /^\d{1,15}$/.test(size) ? Number(size) : null,
    maintainer: stanza.get("maintainer") ?? null,
    provides: (stanza.get("provides") ?? "")
      .split(",")
      .map((item) => item.trim().split(/[\s(:]/)[0] ?? "")
      .filter((item) => item !== ""),
  };
}
