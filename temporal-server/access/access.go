// Package access decides which calls of Temporal's API each identity may make. What its file does not list is refused.
package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v4"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/server/common/api"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"gopkg.in/yaml.v3"
)

// A rule allows calls whose request meets all of its conditions. Calls, Workflows and Namespace are patterns of path.Match.
type rule struct {
	// Names in WorkflowService and OperatorService. Nobody may call another service, such as AdminService.
	Calls []string
	// The ids of the workflows that the request may be about; any when empty.
	Workflows []string
	// The types of the workflows that the request may start; any when empty.
	Types []string
	// The task queues that the request may name; any when empty.
	Queues []string
	// The names of the signals, updates and queries that the request may carry; any when empty.
	Names []string
}

type identity struct {
	Namespace string
	Allow     []rule
}

// List is the authorizer.
type List struct {
	identities map[string]identity
	logger     log.Logger
	logged     sync.Map
}

// Read parses a file of identities. It refuses a file with an unknown field, call or pattern.
func Read(file io.Reader, logger log.Logger) (*List, error) {
	identities := map[string]identity{}
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&identities); err != nil {
		return nil, err
	}
	for name, of := range identities {
		if name == "" || of.Namespace == "" {
			return nil, errors.New("an identity has no name or no namespace")
		}
		for _, rule := range of.Allow {
			if err := rule.check(); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return &List{identities: identities, logger: logger}, nil
}

func (r rule) check() error {
	if len(r.Calls) == 0 {
		return errors.New("a rule lists no calls")
	}
	for _, pattern := range slices.Concat(r.Calls, r.Workflows) {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%s: %w", pattern, err)
		}
	}
	for _, call := range r.Calls {
		known := func(service string) bool { return api.GetMethodMetadata(service+call).Scope != api.ScopeUnknown }
		if !strings.Contains(call, "*") && !known(api.WorkflowServicePrefix) && !known(api.OperatorServicePrefix) {
			return fmt.Errorf("there is no call %s", call)
		}
	}
	return nil
}

// Authorize allows health checks to everybody, every call to Temporal's own services, and to an identity what is listed for it.
func (l *List) Authorize(
	_ context.Context, claims *authorization.Claims, target *authorization.CallTarget,
) (authorization.Result, error) {
	if target.APIName == healthpb.Health_Check_FullMethodName {
		return authorization.Result{Decision: authorization.DecisionAllow}, nil
	}
	if claims == nil {
		return l.refuse("", target), nil
	}
	// Only the claim mapper of the internal frontend gives this role.
	if claims.System != authorization.RoleAdmin && !l.identities[claims.Subject].mayCall(target) {
		return l.refuse(claims.Subject, target), nil
	}
	l.logOnce("identity makes this call for the first time", claims.Subject, target)
	return authorization.Result{
		Decision:  authorization.DecisionAllow,
		Principal: &commonpb.Principal{Type: claims.AuthType, Name: claims.Subject},
	}, nil
}

func (l *List) refuse(subject string, target *authorization.CallTarget) authorization.Result {
	if _, known := l.identities[subject]; !known {
		// Bounds the log: strangers may have any number of names.
		subject = ""
	}
	l.logOnce("identity is refused this call for the first time", subject, target)
	return authorization.Result{Decision: authorization.DecisionDeny}
}

func (l *List) logOnce(message, subject string, target *authorization.CallTarget) {
	if _, done := l.logged.LoadOrStore([3]string{message, subject, target.APIName}, nil); !done {
		l.logger.Info(message, tag.String("identity", subject), tag.String("call", target.APIName))
	}
}

func (i identity) mayCall(target *authorization.CallTarget) bool {
	service := api.ServiceName(target.APIName)
	if service != api.WorkflowServicePrefix && service != api.OperatorServicePrefix {
		return false
	}
	// The requests of such calls name no namespace.
	inNamespace := api.GetMethodMetadata(target.APIName).Scope == api.ScopeCluster || matches(i.Namespace, target.Namespace)
	call := api.MethodName(target.APIName)
	return inNamespace && slices.ContainsFunc(i.Allow, func(rule rule) bool { return rule.allows(call, target.Request) })
}

func (r rule) allows(call string, request any) bool {
	if !anyMatches(r.Calls, call) {
		return false
	}
	// Such a start terminates the run that has the id.
	start, ok := request.(*workflowservice.StartWorkflowExecutionRequest)
	if ok && (start.GetWorkflowIdConflictPolicy() == enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING ||
		start.GetWorkflowIdReusePolicy() == enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING) {
		return false
	}
	return (len(r.Workflows) == 0 || anyMatches(r.Workflows, workflowOf(request))) &&
		(len(r.Types) == 0 || slices.Contains(r.Types, typeOf(request))) &&
		(len(r.Queues) == 0 || slices.Contains(r.Queues, queueOf(request))) &&
		(len(r.Names) == 0 || slices.Contains(r.Names, nameOf(request)))
}

func anyMatches(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, text) })
}

func matches(pattern, text string) bool {
	matched, err := path.Match(pattern, text)
	return matched && err == nil
}

// workflowOf returns the id of the workflow that a request is about; empty when it is about none.
func workflowOf(request any) string {
	switch r := request.(type) {
	case *workflowservice.StartWorkflowExecutionRequest:
		return r.GetWorkflowId()
	case interface {
		GetWorkflowExecution() *commonpb.WorkflowExecution
	}:
		return r.GetWorkflowExecution().GetWorkflowId()
	case interface {
		GetExecution() *commonpb.WorkflowExecution
	}:
		return r.GetExecution().GetWorkflowId()
	case interface{ GetUpdateRef() *updatepb.UpdateRef }:
		return r.GetUpdateRef().GetWorkflowExecution().GetWorkflowId()
	}
	return ""
}

func typeOf(request any) string {
	if r, ok := request.(interface{ GetWorkflowType() *commonpb.WorkflowType }); ok {
		return r.GetWorkflowType().GetName()
	}
	return ""
}

// queueOf returns the task queue that a request names; of a worker's own, sticky queue the one that it stands for.
func queueOf(request any) string {
	r, ok := request.(interface{ GetTaskQueue() *taskqueuepb.TaskQueue })
	if !ok {
		return ""
	}
	if r.GetTaskQueue().GetKind() == enumspb.TASK_QUEUE_KIND_STICKY {
		return r.GetTaskQueue().GetNormalName()
	}
	return r.GetTaskQueue().GetName()
}

// nameOf returns the name of the signal, update or query that a request carries.
func nameOf(request any) string {
	switch r := request.(type) {
	case *workflowservice.SignalWorkflowExecutionRequest:
		return r.GetSignalName()
	case *workflowservice.UpdateWorkflowExecutionRequest:
		return r.GetRequest().GetInput().GetName()
	case *workflowservice.QueryWorkflowRequest:
		return r.GetQuery().GetQueryType()
	}
	return ""
}

type claimMapper struct{ tokens authorization.ClaimMapper }

// NewClaimMapper identifies a caller by the `sub` of its token, which `tokens` verifies, else by the common name of its certificate.
// A token without `exp` is refused. Roles in tokens are ignored.
func NewClaimMapper(tokens authorization.ClaimMapper) authorization.ClaimMapper {
	return claimMapper{tokens}
}

func (m claimMapper) GetClaims(info *authorization.AuthInfo) (*authorization.Claims, error) {
	if info.AuthToken == "" {
		return &authorization.Claims{Subject: info.TLSSubject.CommonName, AuthType: "mtls"}, nil
	}
	claims, err := m.tokens.GetClaims(info)
	if err != nil {
		return nil, err
	}
	if !expires(info.AuthToken) {
		return nil, errors.New("the token has no exp")
	}
	return &authorization.Claims{Subject: claims.Subject, AuthType: claims.AuthType}, nil
}

func expires(header string) bool {
	_, token, _ := strings.Cut(header, " ")
	claims := jwt.MapClaims{}
	_, _, err := jwt.NewParser().ParseUnverified(token, claims)
	return err == nil && claims.VerifyExpiresAt(time.Now().Unix(), true)
}
