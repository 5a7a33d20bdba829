import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/parts.css";
import "all-folders.css";
import { render } from "preact";
import { resume } from "./session";
import { Shell } from "./shell/shell";
import { applyTheme } from "./theme";

applyTheme();
void resume();
const root = document.getElementById("app");
if (root !== null) render(<Shell />, root);
if ("serviceWorker" in navigator) void navigator.serviceWorker.register("/worker.js");
