import { assertJson, decideNow, SUMMARY_FLAG } from "./cmd-decide.ts";
import { renderPlan } from "./cmd-plan-view.ts";
import { defineSubcommand } from "./command.ts";
import { resolveDocument } from "./doc-store.ts";
import { EXIT } from "./errors.ts";
import { planSummary } from "./plan-summary.ts";
import { isLong, page } from "./sys-pager.ts";

/** `aegis plan show <plan>`: uses a pager if the plan is longer than the terminal. `--json` prints the document. */
export const planShow = defineSubcommand({
  name: "plan show",
  description:
    "Show a plan as people read it, through PAGER (else less -R) where it is longer than the terminal.",
  args: {
    plan: {
      type: "positional",
      required: true,
      complete: "document",
      description: "path, id, beginning of an id, latest, or -",
    },
    ...SUMMARY_FLAG,
  },
  async run(values, io) {
    assertJson(values.summary, io);
    const { document, hash, path } = await resolveDocument("plan", values.plan, io);
    const about = `Plan ${document.plan_id}, made ${document.created_at}\nHash ${hash}`;
    const text = io.json ? "" : `${renderPlan(document, io.terminal)}\n\n${about}`;
    const { terminal } = io;
    if (!io.json && isLong(text, terminal) && (await page(text, terminal, io.env, 1))) return EXIT.ok;
    if (values.summary) {
      const decided = document.nothing_to_do ? null : decideNow(document, hash, io.env).result;
      io.result({ summary: planSummary(document, hash, decided), path }, text);
    } else io.result(document, text);
    return EXIT.ok;
  },
});
