package upgrade

import (
	"context"
	"errors"
	"fmt"

	"edeploy/agent/internal/accounts"
	"edeploy/agent/internal/transaction"
	"edeploy/server/wire"
)

// Restored is what a rollback came to.
type Restored struct {
	transaction.Result
	GoneUsers []string // that came after the upgrade
}

// Rollback brings the version before the last upgrade back. The error says what
// the machine is afterwards.
func (s System) Rollback(ctx context.Context, console Console) (Restored, error) {
	conf, err := s.Conf()
	if err != nil {
		return Restored{}, err
	}
	work := s.Transaction()
	work.Progress = console.Step
	var report *report
	if status, err := work.Status(); err == nil && status.Rollback != nil {
		report = s.begin(ctx, conf, wire.StepRollback, *status.Rollback)
		defer report.close()
	}
	users, _ := readAccounts(s.Machine) // only to tell who is gone
	result, err := work.Rollback(ctx)
	console.Changed(err)
	if errors.Is(err, transaction.ErrUnfinished) {
		return Restored{}, fmt.Errorf("%w with edeploy recover", errInterrupted)
	}
	if err != nil {
		err = s.explain(ctx, conf.Image, err)
		report.failed(err)
		return Restored{}, err
	}
	report.done("")
	now, _ := readAccounts(s.Machine)
	return Restored{result, accounts.Own("etc/passwd", users, now)}, nil
}
