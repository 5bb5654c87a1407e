// Package crds names the Go types that operators define their resources by: `make crds` makes ../*.yaml of them, so that
// the API server of the tests checks what the chart makes just as a cluster with these operators would.
package crds

import (
	_ "github.com/external-secrets/external-secrets/apis/externalsecrets/v1"
	_ "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)
