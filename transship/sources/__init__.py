"""Where image bytes come from: the URI gate and the HTTP download engine."""
