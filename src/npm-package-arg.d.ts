/** The part of npm-package-arg that is used; the package has no types of its own. */
declare module "npm-package-arg" {
  interface Result {
    type: "version" | "range" | "tag" | "alias" | "git" | "remote" | "file" | "directory";
    /** Whether a registry is asked for it. */
    registry?: boolean;
    name?: string | null;
    /** The version, range or tag; the address or path of anything else. */
    fetchSpec?: string | null;
  }
  /** Throws for what npm refuses. Paths are relative to `where`. */
  function npa(target: string, where?: string): Result;
  export = npa;
}
