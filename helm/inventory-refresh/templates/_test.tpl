{{/* Metadata of the pods of helm test: dict "root" $ "what" NAME. The pods are kept, so that their logs can be read, until
     the next test replaces them. */}}
{{- define "inventory-refresh.testMetadata" -}}
{{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation" -}}
{{ include "inventory-refresh.metadata" (dict
      "root" .root
      "name" (printf "%s-test-%s" (include "inventory-refresh.fullname" .root) .what)
      "labels" (dict "app.kubernetes.io/component" "test")
      "annotations" $hook
   ) }}
{{- end }}

{{- define "inventory-refresh.testResources" -}}
requests:
  cpu: 50m
  memory: 256Mi
limits:
  memory: 512Mi
{{- end }}
