// Package crds imports the Go types of the operators' custom resources. `make crds` generates ../*.yaml from them, so that
// the API server of the tests validates the objects of the chart as a cluster with these operators would.
package crds

import (
	_ "github.com/external-secrets/external-secrets/apis/externalsecrets/v1"
	_ "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)
