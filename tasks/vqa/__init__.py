"""Visual question answering: a question about a picture, and the right one of several answers, or an open one."""
