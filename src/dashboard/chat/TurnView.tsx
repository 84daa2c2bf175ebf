/** One question and its answers. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { CopyButton } from '../ui/CopyButton.js';
import { integer, ms, rate } from '../ui/format.js';
import { Icon } from '../ui/Icon.js';
import { choose, edit, regenerate } from './chats.js';
import { Markdown } from './Markdown.js';
import { type Answer, answerOf, type Turn } from './model.js';

interface Props {
  chat: string;
  turn: Turn;
  index: number;
  last: boolean;
  busy: boolean;
}

export function TurnView({ chat, turn, index, last, busy }: Props) {
  const [editing, setEditing] = useState(false);
  const answer = answerOf(turn);
  return (
    <article class="turn">
      {editing ? (
        <Editor
          text={turn.user}
          onCancel={() => setEditing(false)}
          onSave={(text) => {
            setEditing(false);
            void edit(chat, index, text);
          }}
        />
      ) : (
        <div class="user">
          <div class="bubble">{turn.user}</div>
          <button
            type="button"
            class="quiet pen"
            title="Edit: rewinds the session to before this turn and asks anew"
            aria-label="Edit this turn"
            disabled={busy}
            onClick={() => setEditing(true)}
          >
            <Icon name="edit" />
          </button>
        </div>
      )}
      {answer && (
        <div class="answer" data-state={answer.state}>
          {answer.reasoning && (
            <Thinking text={answer.reasoning} running={answer.state === 'running' && answer.text === ''} />
          )}
          <AnswerText answer={answer} />
          <div class="foot">
            <Numbers answer={answer} />
            <span class="tools">
              {answer.text !== '' && answer.state !== 'running' && (
                <CopyButton text={answer.text} label="Copy the answer" quiet />
              )}
              {last && <Tools chat={chat} turn={turn} index={index} busy={busy} />}
            </span>
          </div>
        </div>
      )}
    </article>
  );
}

/** What was thought before the answer: folded, since the answer is what was asked for. */
function Thinking({ text, running }: { text: string; running: boolean }) {
  return (
    <details class="thought">
      <summary>{running ? 'Thinking …' : 'Thought before it answered'}</summary>
      <p>{text}</p>
    </details>
  );
}

function AnswerText({ answer }: { answer: Answer }) {
  if (answer.state === 'failed') {
    return (
      <>
        {answer.text && <Markdown text={answer.text} />}
        <p class="problem" role="alert">
          {answer.problem}
        </p>
      </>
    );
  }
  if (answer.text === '') {
    if (answer.state === 'running')
      return <p class="thinking" role="status" aria-label="Waiting for the first token" />;
    return (
      <p class="note">
        {answer.state === 'done' ? 'The model ended its turn without a word.' : 'Nothing came before it was stopped.'}
      </p>
    );
  }
  return <Markdown text={answer.text} />;
}

/** Tokens a second, time to first token, and how much of the prompt was still in the cache. */
function Numbers({ answer }: { answer: Answer }) {
  const { usage, ttftMs, speed, state } = answer;
  const parts: { text: string; title: string; key: string }[] = [];
  if (speed !== undefined)
    parts.push({ key: 'speed', text: `${rate(speed)} tok/s`, title: 'Tokens a second after the first' });
  if (ttftMs !== undefined)
    parts.push({ key: 'ttft', text: `first token ${ms(ttftMs)}`, title: 'From sending to the first text' });
  if (usage) {
    parts.push({
      key: 'cached',
      text: `cached ${integer(usage.cached)} of ${integer(usage.prompt)}`,
      title: 'Prompt tokens whose KV was still in the cache; the others were computed',
    });
    parts.push({ key: 'out', text: `${integer(usage.completion)} out`, title: 'Tokens generated' });
  }
  const ended = { stopped: 'stopped', limit: 'token limit reached', cut: 'cut off when the page was closed' }[
    state as string
  ];
  return (
    <p class="numbers">
      {parts.map((p) => (
        <span key={p.key} data-number={p.key} title={p.title}>
          {p.text}
        </span>
      ))}
      {ended && <span class="ended">{ended}</span>}
    </p>
  );
}

function Tools({ chat, turn, index, busy }: { chat: string; turn: Turn; index: number; busy: boolean }) {
  const { answers, chosen } = turn;
  return (
    <>
      {answers.length > 1 && (
        <span class="branches">
          <button
            type="button"
            class="quiet"
            aria-label="Previous answer"
            disabled={busy || chosen === 0}
            onClick={() => choose(chat, index, chosen - 1)}
          >
            <Icon name="left" />
          </button>
          <span>
            {chosen + 1}/{answers.length}
          </span>
          <button
            type="button"
            class="quiet"
            aria-label="Next answer"
            disabled={busy || chosen === answers.length - 1}
            onClick={() => choose(chat, index, chosen + 1)}
          >
            <Icon name="right" />
          </button>
        </span>
      )}
      <button
        type="button"
        class="quiet"
        disabled={busy}
        title="Another answer, on a fork of the session"
        onClick={() => void regenerate(chat)}
      >
        <Icon name="redo" /> <span>Regenerate</span>
      </button>
    </>
  );
}

function Editor({ text, onSave, onCancel }: { text: string; onSave: (text: string) => void; onCancel: () => void }) {
  const [value, setValue] = useState(text);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    const f = field.current;
    f?.focus();
    f?.setSelectionRange(f.value.length, f.value.length);
  }, []);
  const done = () => value.trim() && onSave(value.trim());
  return (
    <div class="editor">
      <textarea
        ref={field}
        aria-label="Edited text"
        rows={Math.min(10, value.split('\n').length + 1)}
        value={value}
        onInput={(e) => setValue(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === 'Escape') onCancel();
          if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) {
            e.preventDefault();
            done();
          }
        }}
      />
      <div class="row">
        <span class="note">What follows this turn is dropped; the session is rewound.</span>
        <button type="button" class="quiet" onClick={onCancel}>
          Cancel
        </button>
        <button type="button" class="primary" disabled={!value.trim()} onClick={done}>
          Ask anew
        </button>
      </div>
    </div>
  );
}
