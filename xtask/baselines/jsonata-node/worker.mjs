// npm jsonata behind the protocol of `cargo xtask bench jsonata`: the folder of cases is the argument;
// `show CASE` is answered by the result, `run CASE N` by the nanoseconds that N evaluations took. Bytes in,
// bytes out: parse, evaluate, serialise.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [packages, folder] = process.argv.slice(2);
const jsonata = createRequire(join(packages, "node_modules", "/"))("jsonata");
const cases = new Map();
for (const file of readdirSync(folder).filter((name) => name.endsWith(".jsonata"))) {
  const name = file.slice(0, -".jsonata".length);
  cases.set(name, {
    expression: jsonata(readFileSync(join(folder, file), "utf8")),
    input: readFileSync(join(folder, `${name}.json`)),
  });
}

async function once({ expression, input }) {
  return Buffer.from(JSON.stringify(await expression.evaluate(JSON.parse(input.toString("utf8")))));
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command, name, count] = line.split(" ");
  const work = cases.get(name);
  if (command === "show") {
    console.log((await once(work)).toString("utf8"));
  } else {
    const started = process.hrtime.bigint();
    for (let i = 0; i < Number(count); i += 1) await once(work);
    console.log(String(process.hrtime.bigint() - started));
  }
}
