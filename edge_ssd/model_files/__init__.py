"""What lies beside a model, or around it: manifests of engines, bundles, weights in files of their own."""
