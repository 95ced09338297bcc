package access

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto/x509/pkix"

	"github.com/golang-jwt/jwt/v4"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	querypb "go.temporal.io/api/query/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/server/common/api"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/log"
	"google.golang.org/grpc"
)

func readList(t *testing.T) *List {
	t.Helper()
	file, err := os.Open("../access.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	list, err := Read(file, log.NewNoopLogger())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (l *List) isAllowed(t *testing.T, subject, name, namespace string, request any) bool {
	t.Helper()
	target := &authorization.CallTarget{APIName: name, Namespace: namespace, Request: request}
	result, err := l.Authorize(context.Background(), &authorization.Claims{Subject: subject, AuthType: "mtls"}, target)
	if err != nil {
		t.Fatal(err)
	}
	return result.Decision == authorization.DecisionAllow
}

func allMethods() []string {
	var names []string
	for _, service := range []grpc.ServiceDesc{workflowservice.WorkflowService_ServiceDesc, operatorservice.OperatorService_ServiceDesc} {
		for _, method := range service.Methods {
			names = append(names, "/"+service.ServiceName+"/"+method.MethodName)
		}
	}
	return append(names,
		api.AdminServicePrefix+"DescribeMutableState", api.NexusServicePrefix+"DispatchNexusTask", api.HistoryServicePrefix+"StartWorkflowExecution")
}

func TestACallThatIsNotListedIsRefused(t *testing.T) {
	list := readList(t)
	for subject, of := range list.identities {
		for _, name := range allMethods() {
			listed := slices.ContainsFunc(of.Allow, func(r rule) bool { return anyMatches(r.Calls, api.MethodName(name)) })
			outside := !strings.HasPrefix(name, "/temporal.api.workflowservice") && !strings.HasPrefix(name, "/temporal.api.operatorservice")
			if (outside || !listed) && list.isAllowed(t, subject, name, "default", nil) {
				t.Errorf("%s may call %s", subject, name)
			}
		}
	}
}

func TestStrangersAreRefusedEverything(t *testing.T) {
	list := readList(t)
	for _, name := range allMethods() {
		for _, subject := range []string{"", "somebody"} {
			if list.isAllowed(t, subject, name, "default", nil) {
				t.Errorf("%q may call %s", subject, name)
			}
		}
		result, _ := list.Authorize(context.Background(), nil, &authorization.CallTarget{APIName: name, Namespace: "default"})
		if result.Decision != authorization.DecisionDeny {
			t.Errorf("a caller without an identity may call %s", name)
		}
	}
}

func TestTheOperatorReadsOnly(t *testing.T) {
	list := readList(t)
	for _, name := range allMethods() {
		if list.isAllowed(t, "trellis-operator", name, "default", nil) && api.GetMethodMetadata(name).Access == api.AccessWrite {
			t.Errorf("the operator may call %s", name)
		}
	}
}

func TestTheRequestDecides(t *testing.T) {
	list := readList(t)
	workflow := func(id string) *commonpb.WorkflowExecution { return &commonpb.WorkflowExecution{WorkflowId: id} }
	queue := func(name string) *taskqueuepb.TaskQueue { return &taskqueuepb.TaskQueue{Name: name} }
	start := func(id, kind, on string) *workflowservice.StartWorkflowExecutionRequest {
		return &workflowservice.StartWorkflowExecutionRequest{
			WorkflowId: id, WorkflowType: &commonpb.WorkflowType{Name: kind}, TaskQueue: queue(on),
		}
	}
	terminating, replacing := start("order-1", "OrderWorkflow", "orders-tq"), start("order-1", "OrderWorkflow", "orders-tq")
	terminating.WorkflowIdConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	replacing.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING
	sticky := func(normal string) *taskqueuepb.TaskQueue {
		return &taskqueuepb.TaskQueue{Name: "orders-tq", Kind: enumspb.TASK_QUEUE_KIND_STICKY, NormalName: normal}
	}
	update := func(id, name string) *workflowservice.UpdateWorkflowExecutionRequest {
		input := &updatepb.Request{Input: &updatepb.Input{Name: name}}
		return &workflowservice.UpdateWorkflowExecutionRequest{WorkflowExecution: workflow(id), Request: input}
	}
	signal := func(id, name string) *workflowservice.SignalWorkflowExecutionRequest {
		return &workflowservice.SignalWorkflowExecutionRequest{WorkflowExecution: workflow(id), SignalName: name}
	}
	query := func(id, name string) *workflowservice.QueryWorkflowRequest {
		return &workflowservice.QueryWorkflowRequest{Execution: workflow(id), Query: &querypb.WorkflowQuery{QueryType: name}}
	}
	for _, c := range []struct {
		subject, call, namespace string
		request                  any
		allowed                  bool
	}{
		{"trellis-api", "StartWorkflowExecution", "default", start("order-1", "OrderWorkflow", "orders-tq"), true},
		{"trellis-api", "StartWorkflowExecution", "other", start("order-1", "OrderWorkflow", "orders-tq"), false},
		{"trellis-api", "StartWorkflowExecution", "", start("order-1", "OrderWorkflow", "orders-tq"), false},
		{"trellis-api", "StartWorkflowExecution", "default", start("order-1", "ShippingWorkflow", "orders-tq"), false},
		{"trellis-api", "StartWorkflowExecution", "default", start("order-1", "OrderWorkflow", "other-tq"), false},
		{"trellis-api", "StartWorkflowExecution", "default", start("settle-1", "SettleWorkflow", "orders-tq"), false},
		{"trellis-api", "StartWorkflowExecution", "default", start("ship-1-1", "OrderWorkflow", "orders-tq"), false},
		{"trellis-api", "StartWorkflowExecution", "default", terminating, false},
		{"trellis-api", "StartWorkflowExecution", "default", replacing, false},
		{"trellis-api", "UpdateWorkflowExecution", "default", update("order-1", "approve"), true},
		{"trellis-api", "UpdateWorkflowExecution", "default", update("other-1", "approve"), false},
		{"trellis-api", "UpdateWorkflowExecution", "default", update("order-1", "other"), false},
		{"trellis-api", "UpdateWorkflowExecution", "default", &workflowservice.UpdateWorkflowExecutionRequest{}, false},
		{"trellis-api", "SignalWorkflowExecution", "default", signal("order-1", "cancel_order"), true},
		{"trellis-api", "SignalWorkflowExecution", "default", signal("settle-1", "cancel_order"), false},
		{"trellis-api", "SignalWorkflowExecution", "default", signal("order-1", "dispatch_failed"), false},
		{"trellis-api", "QueryWorkflow", "default", query("order-1", "status"), true},
		{"trellis-api", "QueryWorkflow", "default", query("order-1", "__stack_trace"), false},
		{"trellis-api", "QueryWorkflow", "default", query("ship-1-1", "status"), false},
		{"trellis-api", "PollWorkflowExecutionUpdate", "default", &workflowservice.PollWorkflowExecutionUpdateRequest{
			UpdateRef: &updatepb.UpdateRef{WorkflowExecution: workflow("order-1")}}, true},
		{"trellis-worker", "PollWorkflowTaskQueue", "default",
			&workflowservice.PollWorkflowTaskQueueRequest{TaskQueue: queue("orders-tq")}, true},
		{"trellis-worker", "PollWorkflowTaskQueue", "default",
			&workflowservice.PollWorkflowTaskQueueRequest{TaskQueue: sticky("shipping-tq")}, true},
		{"trellis-worker", "PollWorkflowTaskQueue", "default",
			&workflowservice.PollWorkflowTaskQueueRequest{TaskQueue: sticky("other-tq")}, false},
		{"trellis-worker", "PollActivityTaskQueue", "default",
			&workflowservice.PollActivityTaskQueueRequest{TaskQueue: queue("other-tq")}, false},
		{"trellis-worker", "StartWorkflowExecution", "default", start("settle-1", "SettleWorkflow", "orders-tq"), true},
		{"trellis-worker", "StartWorkflowExecution", "default", start("order-1", "OrderWorkflow", "orders-tq"), false},
		{"trellis-worker", "TerminateWorkflowExecution", "default",
			&workflowservice.TerminateWorkflowExecutionRequest{WorkflowExecution: workflow("settle-1")}, false},
		{"trellis-worker", "DeleteWorkflowExecution", "default",
			&workflowservice.DeleteWorkflowExecutionRequest{WorkflowExecution: workflow("ship-1-1")}, true},
		{"trellis-worker", "DeleteWorkflowExecution", "default",
			&workflowservice.DeleteWorkflowExecutionRequest{WorkflowExecution: workflow("other-1")}, false},
		{"trellis-api", "StartWorkflowExecution", "default", start("erase-1", "EraseWorkflow", "orders-tq"), true},
		{"trellis-api", "StartWorkflowExecution", "default", start("erase-1", "OrderWorkflow", "orders-tq"), false},
	} {
		if got := list.isAllowed(t, c.subject, api.WorkflowServicePrefix+c.call, c.namespace, c.request); got != c.allowed {
			t.Errorf("%s in %q, %s %v: allowed is %v", c.subject, c.namespace, c.call, c.request, got)
		}
	}
}

func TestTemporalsOwnServicesMayCallEverything(t *testing.T) {
	claims, err := authorization.NewInternalClaimMapper().GetClaims(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range allMethods() {
		result, _ := readList(t).Authorize(context.Background(), claims, &authorization.CallTarget{APIName: name, Namespace: "any"})
		if result.Decision != authorization.DecisionAllow {
			t.Errorf("refused: %s", name)
		}
	}
}

func TestAFileWithAMistakeIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a call that does not exist": "a: {namespace: default, allow: [{calls: [StartWorkflow]}]}",
		"a rule without calls":       "a: {namespace: default, allow: [{workflows: [order-*]}]}",
		"an unknown condition":       "a: {namespace: default, allow: [{calls: [QueryWorkflow], workflow: order-*}]}",
		"a pattern that is none":     "a: {namespace: default, allow: [{calls: [QueryWorkflow], workflows: ['order-[']}]}",
		"no namespace":               "a: {allow: [{calls: [QueryWorkflow]}]}",
		"no name":                    "'': {namespace: default, allow: [{calls: [QueryWorkflow]}]}",
	} {
		if _, err := Read(strings.NewReader(text), log.NewNoopLogger()); err == nil {
			t.Errorf("accepted: %s", name)
		}
	}
}

// verified stands for Temporal's own claim mapper, which has checked the token's signature.
type verified struct{ subject string }

func (v verified) GetClaims(*authorization.AuthInfo) (*authorization.Claims, error) {
	return &authorization.Claims{Subject: v.subject, AuthType: "jwt", System: authorization.RoleAdmin}, nil
}

func TestWhoACallerIs(t *testing.T) {
	signed := func(claims jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	mapper := NewClaimMapper(verified{"trellis-api"})
	certificate := &pkix.Name{CommonName: "trellis-worker"}
	exp := time.Now().Add(time.Minute).Unix()

	claims, err := mapper.GetClaims(&authorization.AuthInfo{TLSSubject: certificate})
	if err != nil || claims.Subject != "trellis-worker" || claims.AuthType != "mtls" {
		t.Errorf("by certificate: %v, %v", claims, err)
	}
	claims, err = mapper.GetClaims(&authorization.AuthInfo{AuthToken: signed(jwt.MapClaims{"exp": exp}), TLSSubject: certificate})
	if err != nil || claims.Subject != "trellis-api" || claims.AuthType != "jwt" {
		t.Errorf("by token: %v, %v", claims, err)
	}
	if claims != nil && (claims.System != 0 || len(claims.Namespaces) != 0) {
		t.Errorf("the token's roles count: %v", claims)
	}
	if claims, err = mapper.GetClaims(&authorization.AuthInfo{AuthToken: signed(jwt.MapClaims{}), TLSSubject: certificate}); err == nil {
		t.Errorf("a token that never expires makes its holder %s", claims.Subject)
	}
}
