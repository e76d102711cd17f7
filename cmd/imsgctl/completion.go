package main

import "github.com/spf13/cobra"

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion shell",
		Short: "Print what makes a shell complete commands, flags, types and fields",
		Long: `Completion prints a script for a shell: bash, fish, powershell or zsh. With it the
shell completes commands, flags, names of profiles, and for send the types of
messages and the fields of payloads.`,
		Example: `  imsgctl completion bash > /etc/bash_completion.d/imsgctl
  imsgctl completion zsh > "${fpath[1]}/_imsgctl"
  imsgctl completion fish > ~/.config/fish/completions/imsgctl.fish
  source <(imsgctl completion bash)         for this shell only`,
		ValidArgs: []string{"bash", "fish", "powershell", "zsh"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return a.root.GenBashCompletionV2(a.stdout, true)
			case "fish":
				return a.root.GenFishCompletion(a.stdout, true)
			case "zsh":
				return a.root.GenZshCompletion(a.stdout)
			}
			return a.root.GenPowerShellCompletionWithDesc(a.stdout)
		},
	}
}
