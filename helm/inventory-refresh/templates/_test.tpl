{{/* Metadata of the pods of helm test: dict "root" $ "what" NAME. The pods are kept, so that their logs can be read, until
     the next test replaces them. */}}
{{- define "inventory-refresh.testMetadata" -}}
{{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation" -}}
{{ include "inventory-refresh.metadata" (dict
      "root" .root
      "name" (printf "%s-test-%s" (include "inventory-refresh.fullname" .root) .what)
      "labels" (merge (dict "app.kubernetes.io/component" "test") .root.Values.tests.podLabels .root.Values.podLabels)
      "annotations" (merge $hook .root.Values.tests.podAnnotations .root.Values.podAnnotations)
   ) }}
{{- end }}
