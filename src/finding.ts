export type Level = "ok" | "warn" | "fail";

/** One finding. `fix` is what to type or do; empty when all is well. */
export interface Finding {
  check: string;
  level: Level;
  message: string;
  fix: string;
}

/** All is well. */
export const ok = (check: string, message: string): Finding => ({ check, level: "ok", message, fix: "" });
/** Something to look at; `fix` says what to type or do. */
export const warn = (check: string, message: string, fix: string): Finding => ({
  check,
  level: "warn",
  message,
  fix,
});
/** Something that makes Aegis unfit or unsafe here. */
export const fail = (check: string, message: string, fix: string): Finding => ({
  check,
  level: "fail",
  message,
  fix,
});
