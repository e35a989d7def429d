// Applies the shim's rule to what comes by line: {view, how, text} in, the answer out, as JSON.
"use strict";
const { readFileSync } = require("node:fs");

const source = readFileSync(`${__dirname}/../src/shim/shim.js`, "utf8");
const text = source.slice(source.indexOf("function rule("), source.indexOf("// ---- End of the rule."));
const rule = new Function(`"use strict"; return ${text}`)();

for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const { view, how, text } = JSON.parse(line);
  console.log(JSON.stringify(rule(view)[how](text)));
}
