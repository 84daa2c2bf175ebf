// A reporter of node's test runner: one JSON line for each test that was skipped, with the reason.
export default async function* skips(events) {
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    if (data.skip === undefined && data.todo === undefined) continue;
    const reason = [data.skip, data.todo].find((r) => typeof r === 'string' && r !== '') ?? 'no reason given';
    yield `${JSON.stringify({ name: data.name, file: data.file ?? '', reason })}\n`;
  }
}
