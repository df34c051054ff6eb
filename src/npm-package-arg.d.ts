/** The parts of npm-package-arg that are used; the package ships no types. */
declare module "npm-package-arg" {
  interface Result {
    type: "version" | "range" | "tag" | "alias" | "git" | "remote" | "file" | "directory";
    /** Whether it comes from a registry. */
    registry?: boolean;
    name?: string | null;
    /** Version, range or tag; for anything else the URL or path. */
    fetchSpec?: string | null;
  }
  /** Throws for arguments npm refuses. Paths are relative to `where`. */
  function npa(target: string, where?: string): Result;
  export = npa;
}
