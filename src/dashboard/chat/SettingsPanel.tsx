/** What goes with the questions of the open conversation. */
import type { ComponentChildren } from 'preact';
import { setSettings, settingsOf } from './chats.js';
import type { Conversation, Settings } from './model.js';
import { usual } from './settings.js';

export function SettingsPanel({ chat }: { chat: Conversation }) {
  const s = settingsOf(chat);
  const change = (fields: Partial<Settings>) => setSettings(chat.id, { ...s, ...fields });
  return (
    <fieldset class="settings">
      <legend>For this conversation</legend>
      <label class="wide">
        System prompt
        <textarea
          rows={2}
          value={s.system}
          placeholder="the model's own"
          onInput={(e) => change({ system: e.currentTarget.value })}
        />
      </label>
      <label>
        <span>
          Temperature <span class="now">{s.temperature === 0 ? 'greedy' : s.temperature.toFixed(1)}</span>
        </span>
        <input
          type="range"
          min="0"
          max="1.5"
          step="0.1"
          value={s.temperature}
          onInput={(e) => change({ temperature: Number(e.currentTarget.value) })}
        />
      </label>
      <label>
        <span>
          Top p <span class="now">{s.topP === 1 ? 'off' : s.topP.toFixed(2)}</span>
        </span>
        <input
          type="range"
          min="0.05"
          max="1"
          step="0.05"
          value={s.topP}
          onInput={(e) => change({ topP: Number(e.currentTarget.value) })}
        />
      </label>
      <NumberField value={s.topK || null} min={1} placeholder="off" onValue={(n) => change({ topK: n ?? 0 })}>
        Top k
      </NumberField>
      <label>
        <span>
          Repetition penalty{' '}
          <span class="now">{s.repetitionPenalty === 1 ? 'off' : s.repetitionPenalty.toFixed(2)}</span>
        </span>
        <input
          type="range"
          min="1"
          max="1.5"
          step="0.05"
          value={s.repetitionPenalty}
          onInput={(e) => change({ repetitionPenalty: Number(e.currentTarget.value) })}
        />
      </label>
      <NumberField value={s.maxTokens} min={1} placeholder="what fits" onValue={(maxTokens) => change({ maxTokens })}>
        Longest answer, tokens
      </NumberField>
      <NumberField value={s.seed} min={0} placeholder="another each time" onValue={(seed) => change({ seed })}>
        Seed
      </NumberField>
      <p class="wide row">
        <span class="note">
          {chat.settings ? 'This conversation has settings of its own.' : 'As every new conversation has them.'}
        </span>
        <button type="button" class="small" disabled={!chat.settings} onClick={() => usual.set(s)}>
          Use for new ones
        </button>
        <button type="button" class="small" disabled={!chat.settings} onClick={() => setSettings(chat.id, undefined)}>
          Reset
        </button>
      </p>
    </fieldset>
  );
}

interface NumberProps {
  value: number | null;
  min: number;
  placeholder: string;
  onValue: (n: number | null) => void;
  children: ComponentChildren;
}

function NumberField({ value, min, placeholder, onValue, children }: NumberProps) {
  return (
    <label>
      <span>{children}</span>
      <input
        type="number"
        min={min}
        max="1000000000"
        placeholder={placeholder}
        value={value ?? ''}
        onInput={(e) => {
          const n = Number.parseInt(e.currentTarget.value, 10);
          onValue(n >= min ? n : null);
        }}
      />
    </label>
  );
}
