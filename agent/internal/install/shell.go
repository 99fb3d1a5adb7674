package install

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"edeploy/agent/internal/client"
)

// shell offers a shell on the console, and meanwhile by ssh to whoever has one
// of the deployment's keys.
func (in *installation) shell(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if in.env.LogIn != nil {
		go in.letIn(ctx)
	}
	return in.env.Shell(ctx)
}

// letIn asks the server who may log in, until it knows: the network, or the
// server, may not be there yet. It says nothing meanwhile: somebody types on the
// console.
func (in *installation) letIn(ctx context.Context) {
	keys, err := in.client.Keys(ctx)
	for err != nil {
		if refused, is := errors.AsType[*client.Refused](err); is && !refused.Temporary() {
			if refused.Status != http.StatusNotFound {
				in.console.printf("no login by ssh: %v", err)
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(cmp.Or(in.env.LongestPause, 10*time.Second)):
		}
		keys, err = in.client.Keys(ctx)
	}
	said, err := in.env.LogIn(ctx, keys)
	if err != nil {
		in.console.printf("no login by ssh: %v", err)
		return
	}
	in.console.printf("%s", said)
}
