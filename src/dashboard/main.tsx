/** The page: conversations, chat, engine. */
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { ChatView } from './chat/ChatView.js';
import { Sidebar } from './chat/Sidebar.js';
import { EngineView } from './engine/EngineView.js';
import { followEngine, live } from './live/connection.js';
import { RequestsView } from './requests/RequestsView.js';
import { SessionsView } from './sessions/SessionsView.js';
import { short } from './ui/format.js';
import { Icon } from './ui/Icon.js';
import { KeyDialog } from './ui/KeyDialog.js';
import { ModelCard } from './ui/ModelCard.js';
import { pane, togglePane } from './ui/pane.js';
import { useStore } from './ui/store.js';
import { theme, toggleTheme } from './ui/theme.js';
import { showView, type View, view } from './ui/view.js';
import './styles/base.css';
import './styles/chat.css';
import './styles/engine.css';
import './styles/manage.css';
import './styles/inspect.css';

function App() {
  const { shown: current } = useStore(view);
  const [drawer, setDrawer] = useState(false);
  const { shown } = useStore(pane);
  useEffect(followEngine, []);
  return (
    <div class="app" data-view={current} data-drawer={drawer} data-pane={shown ? 'shown' : 'hidden'}>
      <a class="skip" href="#main">
        Skip to the chat
      </a>
      <Header onDrawer={() => setDrawer(!drawer)} drawer={drawer} />
      <Sidebar
        onPick={() => {
          setDrawer(false);
          showView('chat');
        }}
      />
      <main id="main">
        {/* what was typed stays there while something else is looked at */}
        <div class="pane-of-main" hidden={current === 'sessions' || current === 'requests'}>
          <ChatView />
        </div>
        {current === 'sessions' && <SessionsView />}
        {current === 'requests' && <RequestsView />}
      </main>
      <EngineView />
      <KeyDialog />
    </div>
  );
}

interface HeaderProps {
  drawer: boolean;
  onDrawer: () => void;
}

const VIEWS: [View, string][] = [
  ['chat', 'Chat'],
  ['sessions', 'Sessions'],
  ['requests', 'Requests'],
  ['engine', 'Engine'],
];

function Header({ drawer, onDrawer }: HeaderProps) {
  const { shown: current } = useStore(view);
  const { status, about } = useStore(live);
  const shade = useStore(theme);
  const { shown } = useStore(pane);
  const [card, setCard] = useState(false);
  return (
    <header class="top">
      <button type="button" class="quiet drawer" aria-label="Conversations" aria-expanded={drawer} onClick={onDrawer}>
        <Icon name="menu" />
      </button>
      <h1>
        <img src="/favicon.svg" alt="" width="24" height="24" /> longmind
      </h1>
      <p class="model">
        <i class={`dot ${status}`} title={status} />
        {about && (
          <button
            type="button"
            class="quiet model-name"
            title="About this model"
            aria-haspopup="dialog"
            onClick={() => setCard(true)}
          >
            <b>{about.servedModelName}</b>
            <span>
              {short(about.parameters)} · {about.quantisation} · {about.device.name}
            </span>
          </button>
        )}
      </p>
      <ModelCard open={card} onClose={() => setCard(false)} />
      <fieldset class="segmented views" aria-label="View">
        {VIEWS.map(([name, label]) => (
          <button
            key={name}
            type="button"
            class={`view-${name}`}
            aria-pressed={current === name}
            onClick={() => showView(name)}
          >
            {label}
          </button>
        ))}
      </fieldset>
      <button
        type="button"
        class="quiet pane"
        aria-label="The engine's view"
        aria-pressed={shown}
        title={shown ? 'Hide the engine' : 'Show the engine'}
        onClick={togglePane}
      >
        <Icon name="pane" />
      </button>
      <button
        type="button"
        class="quiet"
        aria-label={shade === 'dark' ? 'Light colours' : 'Dark colours'}
        title={shade === 'dark' ? 'Light colours' : 'Dark colours'}
        onClick={toggleTheme}
      >
        <Icon name={shade === 'dark' ? 'sun' : 'moon'} />
      </button>
    </header>
  );
}

render(<App />, document.getElementById('app') as HTMLElement);
