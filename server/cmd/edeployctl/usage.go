package main

import (
	"fmt"
	"slices"
	"strings"

	"edeploy/server/internal/lint"

	"github.com/spf13/cobra"
)

// couldNotLook is the exit status of commands that answer a question when
// they have no answer (1 is their "no"), and of all commands when they are
// called in a way that they do not know.
const couldNotLook = 2

type statusError struct {
	status int
	error
}

func (e statusError) Unwrap() error { return e.error }

// unseen marks an error: there is no answer to the question.
func unseen(err error) error {
	if err == nil {
		return nil
	}
	return statusError{couldNotLook, err}
}

// strict makes every command of the tree tell in one line, with exit status
// couldNotLook, what is wrong with its words.
func strict(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return unseen(fmt.Errorf("%w; %s --help lists the options", err, cmd.CommandPath()))
	})
	eachCommand(cmd, func(cmd *cobra.Command) {
		if cmd.RunE == nil && cmd.Run == nil {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.Args = cobra.NoArgs
		}
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error { return usageError(cmd, args, check(cmd, args)) }
		}
	})
}

func eachCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, do)
	}
}

// usageError is the error about a command's arguments: a word that is no
// command, or how the command is used.
func usageError(cmd *cobra.Command, args []string, err error) error {
	switch {
	case err == nil:
		return nil
	case cmd.HasAvailableSubCommands() && len(args) > 0:
		return unseen(unknownCommand(cmd, args[0]))
	}
	return unseen(fmt.Errorf("usage: %s; --help explains it", strings.TrimSuffix(cmd.UseLine(), " [flags]")))
}

func unknownCommand(cmd *cobra.Command, word string) error {
	text := fmt.Sprintf("%s has no command %s", cmd.CommandPath(), printable(word))
	if meant := meant(cmd, word); len(meant) > 0 {
		return fmt.Errorf("%s: did you mean %s?", text, strings.Join(meant, ", or "))
	}
	return fmt.Errorf("%s; %s --help lists them", text, cmd.CommandPath())
}

const maxMeant = 3

// meant are the commands that somebody may have meant: of this command first,
// then of the whole program.
func meant(cmd *cobra.Command, word string) []string {
	word = strings.ToLower(word)
	var near, far []string
	eachCommand(cmd.Root(), func(sub *cobra.Command) {
		if !sub.IsAvailableCommand() || !sub.HasParent() {
			return
		}
		names := append([]string{sub.Name()}, sub.Aliases...)
		switch {
		case sub.Parent() == cmd && slices.ContainsFunc(names, func(name string) bool { return alike(word, name) }):
			near = append(near, sub.CommandPath())
		case slices.Contains(names, word):
			far = append(far, sub.CommandPath())
		}
	})
	all := append(near, far...)
	return all[:min(len(all), maxMeant)]
}

// alike: the same start, or at most two letters otherwise.
func alike(word, name string) bool {
	return len(word) >= 3 && strings.HasPrefix(name, word) || lint.Distance(word, name) <= min(2, len(name)/3)
}
