"""Navigation on graphs (R2R, R4R, RxR, REVERIE): follow an instruction from viewpoint to viewpoint."""
