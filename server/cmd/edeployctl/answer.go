package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

// answers makes a command print what it finds out: as text, or with --json as
// JSON of this shape. A verdict is the error of an answer that says "no".
func answers[T any](cmd *cobra.Command, shape string, find func(*cobra.Command, []string) (T, error), text func(io.Writer, T) error, verdict ...func(T) error) *cobra.Command {
	raw := cmd.Flags().Bool("json", false, shape)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		answer, err := find(cmd, args)
		if err != nil {
			return err
		}
		err = show(cmd.OutOrStdout(), *raw, answer, text)
		for _, no := range verdict {
			err = cmp.Or(err, no(answer))
		}
		return err
	}
	return cmd
}

// printsSentence is a command's run that prints the sentence it answers.
func printsSentence(do func(cmd *cobra.Command, args []string) (string, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		sentence, err := do(cmd, args)
		if err == nil {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), printable(sentence))
		}
		return err
	}
}

// show prints an answer for people or, raw, for scripts.
func show[T any](out io.Writer, raw bool, answer T, text func(io.Writer, T) error) error {
	if raw {
		return printJSON(out, answer)
	}
	return text(out, answer)
}

func printJSON(out io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", text)
	}
	return err
}

func printRaw(cmd *cobra.Command, client *api.Client, path string) error {
	text, err := client.Raw(cmd.Context(), path)
	if err == nil {
		_, err = cmd.OutOrStdout().Write(text)
	}
	return err
}

// table lines up cells, in which nothing can steer a terminal.
type table struct{ *tabwriter.Writer }

func newTable(out io.Writer, heading ...any) table {
	t := table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	if len(heading) > 0 {
		t.row(heading...)
	}
	return t
}

func (t table) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprint(t, printable(fmt.Sprint(cell)))
	}
	fmt.Fprintln(t)
}

// printable takes out what could steer a terminal: the texts come from
// machines.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) && c != '\n' {
			return -1
		}
		return c
	}, s)
}

// plural is a number with its noun: 1 error, 2 errors, 0 entries.
func plural[N int | int64](n N, noun string) string {
	stem, y := strings.CutSuffix(noun, "y")
	switch {
	case n == 1:
		return "1 " + noun
	case y:
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// verb is the form of a verb for a number of things.
func verb(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// orDash stands for a text that is empty.
func orDash(text string) string { return cmp.Or(text, "-") }

func moment(t time.Time) string { return t.Local().Format(time.DateTime) }

// terminal is where an operator answers questions.
type terminal struct {
	in    *bufio.Reader
	out   io.Writer
	there bool // else nobody answers
}

func terminalOf(cmd *cobra.Command) terminal {
	return terminal{bufio.NewReader(cmd.InOrStdin()), cmd.ErrOrStderr(), isTerminal(cmd.InOrStdin()) && isTerminal(cmd.ErrOrStderr())}
}

// ask answers what was typed; "" is no answer, too.
func (t terminal) ask(question string) string {
	fmt.Fprintf(t.out, "%s ", question)
	answer, _ := t.in.ReadString('\n')
	return strings.TrimSpace(answer)
}

func (t terminal) confirms(question string) bool {
	answer := strings.ToLower(t.ask(question + " [y/N]"))
	return answer == "y" || answer == "yes"
}

// completes completes with words that depend on those before; nil: none.
func completes(words func(ctx context.Context, before []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return words(cmd.Context(), args), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeMachine completes one id or name by asking the server; without an
// answer there is nothing to complete.
func completeMachine(client *api.Client) cobra.CompletionFunc {
	return completes(func(ctx context.Context, before []string) (words []string) {
		if len(before) > 0 {
			return nil
		}
		all, _ := client.Machines(ctx)
		for _, m := range all {
			words = append(words, m.ID+"\t"+printable(m.DisplayName))
			if m.DisplayName != "" && !strings.ContainsAny(m.DisplayName, " \t\n") {
				words = append(words, printable(m.DisplayName)+"\t"+m.ID)
			}
		}
		return words
	})
}

func completeDirectory(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}
