{{/* Names and labels. */}}

{{- define "inventory-refresh.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/* At most 52 characters: a StatefulSet appends up to 11 in a label, whose limit is 63. */}}
{{- define "inventory-refresh.fullname" -}}
{{- $name := include "inventory-refresh.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels that never change during the life of a release: the selector of a workload is immutable. */}}
{{- define "inventory-refresh.releaseLabels" -}}
app.kubernetes.io/name: {{ include "inventory-refresh.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Selects the pods of the service, not those of helm test. */}}
{{- define "inventory-refresh.selectorLabels" -}}
{{ include "inventory-refresh.releaseLabels" . }}
app.kubernetes.io/component: consumer
{{- end }}

{{/* Labels of all objects except pods: a new version of the chart alone must not replace pods. */}}
{{- define "inventory-refresh.labels" -}}
{{- $chart := printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $own := merge (dict
      "helm.sh/chart" $chart
      "app.kubernetes.io/version" .Chart.AppVersion
      "app.kubernetes.io/managed-by" .Release.Service
    ) (include "inventory-refresh.releaseLabels" . | fromYaml) -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end }}

{{/* Metadata of an object: dict "root" $ "name" NAME "namespace" OTHER "labels" MORE "annotations" MORE. */}}
{{- define "inventory-refresh.metadata" -}}
name: {{ .name }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- merge (include "inventory-refresh.labels" .root | fromYaml) (.labels | default dict) | toYaml | nindent 2 }}
{{- with merge dict (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "inventory-refresh.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "inventory-refresh.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "inventory-refresh.image" -}}
{{- with .Values.image -}}
{{- $registry := $.Values.global.imageRegistry | default .registry | trimSuffix "/" -}}
{{- $name := ternary (printf "%s/%s" $registry .repository) .repository (not (empty $registry)) -}}
{{- if .digest -}}
{{- printf "%s@%s" $name .digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "inventory-refresh.workloadKind" -}}
{{- ternary "StatefulSet" "Deployment" .Values.staticMembership.enabled -}}
{{- end }}

{{/* "true" if an autoscaler sets the number of replicas; setting it here too would undo that at every upgrade. */}}
{{- define "inventory-refresh.autoscaled" -}}
{{- if or .Values.keda.enabled .Values.hpa.enabled -}}true{{- end -}}
{{- end }}
