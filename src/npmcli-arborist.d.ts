/** The parts of @npmcli/arborist that are used; the package ships no types. */
declare module "@npmcli/arborist" {
  export interface ArboristEdge {
    name: string;
    /** As the package states it. */
    spec: string;
    type: "prod" | "optional" | "peer" | "peerOptional" | "dev" | "workspace";
    to: ArboristNode | null | undefined;
    /** Why the tree does not satisfy it, or null. */
    error: string | null;
  }
  export interface ArboristNode {
    isRoot: boolean;
    isLink: boolean;
    /** An optional package that this platform can't have; npm leaves it out. */
    inert: boolean;
    inBundle: boolean;
    optional: boolean;
    /** Why it could not be loaded. */
    errors: unknown[];
    packageName: string;
    version: string;
    location: string;
    hasShrinkwrap: boolean;
    integrity: string | null;
    package: { bundleDependencies?: unknown };
    edgesOut: Map<string, ArboristEdge>;
    inventory: Map<string, ArboristNode>;
  }
  export class Arborist {
    constructor(options: Record<string, unknown>);
    idealTree: ArboristNode | null;
    buildIdealTree(options: { add: string[]; complete: boolean }): Promise<ArboristNode>;
  }
}
