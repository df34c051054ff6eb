import { type CrateManifest, readManifest, textOf } from "./cargo-manifest.ts";
import { badArchive } from "./eco-archive.ts";
import { machineCode } from "./eco-closure.ts";
import { readTarGz } from "./eco-tar.ts";
import { AegisError } from "./errors.ts";

/*
 * What a crate's file holds, read without running anything. Only what a plan needs is kept, since a closure has hundreds of crates.
 */

/** What was found in a crate's file. */
export interface CrateFacts {
  manifest: CrateManifest;
  /** Its Cargo.lock. */
  lock: string | null;
  /** Build scripts, which cargo compiles and runs; the text is null where the manifest names a file that isn't there. */
  buildScripts: { path: string; body: string | null }[];
  /** Files with machine code: path and kind. */
  machineCode: { path: string; kind: string }[];
}

/**
 * Looks into a crate's file.
 * @throws AegisError `refused` for an archive that can't be used, or that is of another crate
 */
export function inspectCrate(name: string, version: string, packed: Uint8Array): CrateFacts {
  try {
    return inspect(name, version, packed);
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    throw new AegisError(error.code, `${name} ${version}: ${error.message}`, error.hint);
  }
}

function inspect(name: string, version: string, packed: Uint8Array): CrateFacts {
  const prefix = `${name}-${version}/`;
  const files = readTarGz(packed).map((one) => {
    if (!one.path.startsWith(prefix)) throw badArchive(`${JSON.stringify(one.path)} is not below ${prefix}`);
    return { ...one, path: one.path.slice(prefix.length) };
  });
  const manifest = readManifest(files);
  if (manifest.name !== name || manifest.version !== version)
    throw badArchive(`its Cargo.toml is of ${manifest.name} ${manifest.version}`.slice(0, 300));
  return {
    manifest,
    lock: textOf(files, "Cargo.lock"),
    buildScripts: manifest.buildScripts.map((path) => ({ path, body: textOf(files, path) })),
    machineCode: files.flatMap((file) => {
      const kind = isOfTests(file.path) ? null : machineCode(file);
      return kind === null ? [] : [{ path: file.path, kind }];
    }),
  };
}

/** Data of tests, examples and benchmarks, which no installation builds. */
function isOfTests(path: string): boolean {
  return /^(?:tests|test|examples|benches|fuzz)\//.test(path);
}
