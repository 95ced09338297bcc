// Temporal's server with an allow-list of calls for each identity (access.yaml). It takes the command line of Temporal's own program.
package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/headers"
	"go.temporal.io/server/common/log"
	_ "go.temporal.io/server/common/persistence/sql/sqlplugin/mysql"
	_ "go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	_ "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/temporal"

	"trellis/temporal-server/access"
)

func main() {
	app := &cli.App{
		Name:    "temporal-server",
		Usage:   "Temporal's server with an allow-list of calls for each identity",
		Version: headers.ServerVersion,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name:    "config-file",
				Usage:   "the server's configuration; the template that is part of the server, filled from the environment, when absent",
				EnvVars: []string{config.EnvKeyConfigFile},
			},
			&cli.StringFlag{
				Name:     "access-file",
				Usage:    "the calls that each identity may make",
				EnvVars:  []string{"TEMPORAL_ACCESS_FILE"},
				Required: true,
			},
		},
		Commands: []*cli.Command{{
			Name:  "start",
			Usage: "Start Temporal server",
			Flags: []cli.Flag{&cli.StringSliceFlag{
				Name:    "service",
				Usage:   "service(s) to start",
				Value:   cli.NewStringSlice(temporal.DefaultServices...),
				EnvVars: []string{"TEMPORAL_SERVICES"},
			}},
			Action: func(c *cli.Context) error {
				return start(c.String("config-file"), c.String("access-file"), c.StringSlice("service"))
			},
		}},
	}
	if err := app.Run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// start returns once the server is interrupted.
func start(configFile, accessFile string, services []string) error {
	load := config.WithEmbedded()
	if configFile != "" {
		load = config.WithConfigFile(configFile)
	}
	cfg, err := config.Load(load)
	if err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	logger := log.NewZapLogger(log.BuildZapLogger(cfg.Log))
	list, err := readAccess(accessFile, logger)
	if err != nil {
		return fmt.Errorf("%s: %w", accessFile, err)
	}
	tokens := &cfg.Global.Authorization
	audience, err := authorization.GetAudienceMapperFromConfig(tokens)
	if err != nil {
		return err
	}
	provider := authorization.NewDefaultTokenKeyProvider(tokens, logger)
	claims := access.NewClaimMapper(authorization.NewDefaultJWTClaimMapper(provider, tokens, logger))
	server, err := temporal.NewServer(
		temporal.ForServices(services),
		temporal.WithConfig(cfg),
		temporal.WithLogger(logger),
		temporal.InterruptOn(temporal.InterruptCh()),
		temporal.WithAuthorizer(list),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithAudienceGetter(func(*config.Config) authorization.JWTAudienceMapper { return audience }),
	)
	if err != nil {
		return err
	}
	return server.Start()
}

func readAccess(name string, logger log.Logger) (*access.List, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return access.Read(file, logger)
}
