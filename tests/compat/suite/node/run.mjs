// node run.mjs MODULE SCENARIO OPTIONS: runs one function of a module, and prints what it returned as JSON.
const [module, scenario, options] = process.argv.slice(2);
const scenarios = await import(module);
if (typeof scenarios[scenario] !== "function") throw new Error(`${module} has no ${scenario}`);
try {
  const seen = await scenarios[scenario](JSON.parse(options));
  process.stdout.write(JSON.stringify(seen ?? null), () => process.exit(0));
} catch (e) {
  process.stderr.write(`${e?.constructor?.name}: ${e?.message}`, () => process.exit(1));
}
