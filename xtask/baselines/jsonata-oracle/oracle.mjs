// npm jsonata behind the protocol of `cargo xtask conformance jsonata`. A line in is
// {"dataset": TEXT}, or {"e": EXPRESSION, "d": [DATASET or -1 for undefined, ...], "b": BINDINGS}; the
// latter is answered by a line: {"compile": ERROR} or an array of outcomes, which ends early after so many timeouts. Clock, time zone and random
// numbers are those that the other side has.
import { writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [packages, timeout, now, seed, timeoutsMax] = process.argv.slice(2);
const RealDate = globalThis.Date;
globalThis.Date = class extends RealDate {
  constructor(...given) {
    super(...(given.length === 0 ? [Number(now)] : given));
  }
};
let state = 0n;
const bits = (1n << 64n) - 1n;
Math.random = () => {
  state = (state + 0x9e3779b97f4a7c15n) & bits;
  let z = ((state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n) & bits;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & bits;
  return Number((z ^ (z >> 31n)) >> 11n) / 2 ** 53;
};
const jsonata = createRequire(join(packages, "node_modules", "/"))("jsonata");

const isFunction = (v) =>
  typeof v === "function" || (v && (v._jsonata_lambda === true || v._jsonata_function === true));

function ofValue(value) {
  if (value === undefined) return { u: 1 };
  const found = {};
  const text = JSON.stringify(value, (_, v) => {
    if (isFunction(v)) {
      found.function = 1;
      return "";
    }
    if (typeof v === "number" && !Number.isFinite(v)) found.infinite = 1;
    return v;
  });
  return { v: text ?? "null", ...found };
}

function ofError(error) {
  const text = (x) => (x === undefined || x === null ? null : String(x));
  return {
    c: text(error.code),
    p: typeof error.position === "number" ? error.position : null,
    t: text(error.token),
    m: text(error.message),
  };
}

const datasets = [];
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.dataset !== undefined) {
    datasets.push(request.dataset);
    continue;
  }
  let answer;
  try {
    const expression = jsonata(request.e, { timeout: Number(timeout), stack: 5000 });
    answer = [];
    let timeouts = 0;
    for (const at of request.d) {
      if (timeouts >= Number(timeoutsMax)) break;
      const input = at < 0 ? undefined : JSON.parse(datasets[at]);
      state = BigInt(seed);
      try {
        answer.push(ofValue(await expression.evaluate(input, request.b)));
      } catch (error) {
        if (error.code === "D1012") timeouts += 1;
        answer.push(ofError(error));
      }
    }
  } catch (error) {
    answer = { compile: ofError(error) };
  }
  // At once: the next expression may not let the event loop turn for long.
  let rest = Buffer.from(`${JSON.stringify(answer)}\n`);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}
